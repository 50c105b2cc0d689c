"""A GRU at many shapes on a GPU: every way to run it is checked and timed, with its peers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import jax

from benchmarks.harness import benchmark, machine, pages
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.tables import Row, split_groups
from benchmarks.suites.gpu.check import ENDS, KEYS, RATIOS, Case, cases, measure
from benchmarks.suites.gpu.ways import CUDNN, PRODUCTS, has_cudnn
from experiments.lab import BadInput

TESTS = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/engines/test_device.py"]
ABOUT = ["device", "driver"]
COLUMNS = [
    *(*KEYS, "contestant", "status", "difference"),
    *(f"{name}{end}" for name in ("us_step", *RATIOS) for end in ENDS),
    *("rounds", *ABOUT),
]
TEXT = """\
Forward pass, or value of mean(ys**2) and its gradient by weights and inputs; inputs are as wide as
the carry. Medians over interleaved rounds, quartiles in brackets; below 1, a way is faster than
what it is compared with. "Products alone" are the multiplications of the forward pass as two
products, three times that for training. What differed from float64 was not timed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.BaseSettings):
    """Measure a GRU on a GPU, against cuDNN and Flax, after the tests that need a device.

    Cases that are in the table are skipped, so a second run continues where time ran out.
    """

    seconds: float = 0.4
    """seconds to time each case; at least five rounds are run"""
    minutes: float = 8.0
    """stop starting new cases after this many minutes"""
    again: bool = False
    """measure cases again that are already in the table"""
    tests: bool = True
    """first run the tests that need a device"""

    @contextlib.contextmanager
    def session(self) -> Iterator[float]:
        """Set up JAX and run the tests; failures are raised once the cases are measured.

        Yields:
            The time, by `time.monotonic`, after which no further case starts.
        """
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others need memory too
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several, JAX may shard arrays
        check_gpu()
        flags = os.environ.get("XLA_FLAGS", "")  # or tests would compile without optimisation
        env = os.environ | {"XLA_FLAGS": flags}
        failed = self.tests and subprocess.run(TESTS, env=env, check=False).returncode
        yield time.monotonic() + 60 * self.minutes
        if failed:
            raise BadInput(
                "tests: expected the tests that need a device to pass, got failures; see above"
            )

    def where(self) -> str:
        """Return the GPU's name for file names."""
        return "-".join(jax.devices()[0].device_kind.lower().split())


def check_gpu() -> None:
    """Raise `BadInput` if JAX has no GPU; turn off its cache of compiled programs."""
    device = jax.devices()[0]
    if device.platform != "gpu":
        raise BadInput(
            f"gpu: expected an NVIDIA GPU, got a {device.platform}; on a machine with a GPU, "
            'pip install "jax[cuda13]"'
        )
    jax.config.update("jax_enable_compilation_cache", False)


@functools.cache
def driver() -> str:
    """Return the version of the GPU's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def groups(settings: Settings) -> Iterator[Group]:
    """List the cases that are not in the table."""
    known = [] if settings.again else BENCHMARK.read(BENCHMARK.path(settings))
    done = finished(known)
    for case in cases():
        if tuple(case.group.values()) not in done:
            name = f"{case.dtype} {case.what} B,T,H {case.shape.name}"
            yield Group(name, functools.partial(measure_here, case, settings.seconds))


def measure_here(case: Case, seconds: float, report: Report) -> list[Row]:
    """Measure a case on this GPU, which each row records."""
    about = dict(zip(ABOUT, (jax.devices()[0].device_kind, driver()), strict=True))
    return [row | about for row in measure(case, seconds, report)]


def finished(rows: list[Row]) -> set[tuple]:
    """Return the groups of a table, except those without cuDNN if it is installed now."""
    needed = CUDNN if has_cudnn() else PRODUCTS
    return {tuple(row[key] for key in KEYS) for row in rows if row["contestant"] == needed}


def page(rows: list[Row]) -> str:
    """Show the time per step, and the ratios to cuDNN, Flax and the products alone."""
    columns = {"microseconds a step": "us_step"}
    columns |= {f"time over that of {other}": name for name, other in RATIOS.items()}
    sections = []
    for kind, some in split_groups(rows, ["dtype", "what"]).items():
        groups = sorted(split_groups(some, KEYS).values(), key=lambda g: [g[0][n] for n in "HBT"])
        for title, column in columns.items():
            names = [n for n in pages.contestants(some) if RATIOS.get(column) != n]
            if pages.with_numbers(groups, names, pages.spread(column)):
                table = pages.grid(groups, pages.columns(*"HBT"), names, pages.spread(column))
                sections.append(f"## {', '.join(kind)}: {title}\n\n{table}")
    wrong = [
        f"{row['contestant']}, {row['dtype']} {row['what']}, B,T,H "
        f"{row['B']},{row['T']},{row['H']}: {row['status']}"
        for row in rows
        if row["status"] != "ok"
    ]
    sections += pages.bullets("Not timed", wrong)
    return pages.page("A GRU on a GPU", TEXT, rows, sections, [*ABOUT, *machine.COLUMNS])


BENCHMARK = Benchmark(
    name="gpu", settings=Settings, keys=KEYS, columns=COLUMNS, groups=groups, page=page
)
