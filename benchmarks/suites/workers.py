"""A sweep by workers of an executor, beside one process: seconds a batch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.tables import Row
from seqcells import _check

HERE, ONE, TWO, DASK = "one process", "a worker", "two workers", "two of Dask"
KEYS = ["trials", "steps", "H"]
WIDTH = 16  # trials of a batch
SEGMENT = 100  # steps
TEXT = """\
The seconds that a sweep takes for a batch of trials more: by `sc.sweep.run` in one process on one
core, by one worker of `sc.sweep.processes(1)` on one core, by two workers of `processes(2)` on a
core each, and by two of Dask on both cores. Each is run with some batches and with twice as many,
and the difference counts, so neither the start of processes nor compilation does. Results are
stored in a folder. Medians over interleaved rounds, quartiles in brackets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure a sweep by workers, against one process."""

    cores: int = dataclasses.field(default=2, metadata={"least": 2})
    """cores of the workers; one process and one worker use the first of them"""
    batches: int = 6
    """batches of the shorter sweep"""
    steps: tuple[int, ...] = (400,)
    """steps of every trial"""
    hidden_size: int = 16
    """units of the GRU"""
    rounds: int = 5
    """times that each is measured"""


def make(hidden_size: int) -> sc.sweep.Task:
    """Make a task: a GRU predicts the next value of a sine from those before it."""
    cell = sc.GRU(hidden_size)

    def loss(params: sc.GRUParams, key: jax.Array, _: object) -> tuple[jax.Array, dict]:
        phase = jax.random.uniform(key, (8,)) * 6
        xs = jnp.sin(jnp.arange(33)[:, None, None] / 3 + phase[:, None])
        _, ys = sc.unroll(cell, params, xs[:-1])
        return jnp.mean(jnp.square(ys[..., :1] - xs[1:])), {}

    return sc.sweep.from_loss(loss, lambda key, _: cell.init(key, 1))


def sweep(batches: int, steps: int, hidden: int, **options: Any) -> None:
    """Train some batches, and store their results."""
    space = sc.sweep.Space(
        learning_rate=sc.sweep.log(1e-4, 1e-2, WIDTH),
        seed=range(batches),
        static={"hidden_size": [hidden]},
    )
    with tempfile.TemporaryDirectory() as out:
        sc.sweep.run(make, space, steps, segment=SEGMENT, batch=WIDTH, out=out, **options)


@contextlib.contextmanager
def on(cores: int) -> Iterator[None]:
    """Pin this process, and those that it starts, to its first cores."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(mine)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def here(batches: int, steps: int, hidden: int) -> None:
    """Run a sweep in one process on one core."""
    with on(1), sc.sweep.processes(1) as pool:
        pool.submit(sweep, batches, steps, hidden).result()


def workers(count: int, batches: int, steps: int, hidden: int) -> None:
    """Run a sweep by workers with a core each."""
    with on(count), sc.sweep.processes(count) as pool:
        sweep(batches, steps, hidden, executor=pool)


def dask(batches: int, steps: int, hidden: int) -> None:
    """Run a sweep by two workers of Dask."""
    library = _check.extra("distributed", "seqcells[workers]")
    given = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with on(2), library.LocalCluster(**given) as cluster, library.Client(cluster) as client:
        sweep(batches, steps, hidden, executor=client.get_executor())


WAYS: dict[str, Callable[[int, int, int], None]] = {
    HERE: here,
    ONE: functools.partial(workers, 1),
    TWO: functools.partial(workers, 2),
    DASK: dask,
}


def groups(settings: Settings) -> Iterator[Group]:
    """List every number of steps."""
    for steps in settings.steps:
        yield Group(f"{steps} steps", functools.partial(measure, steps, settings))


def measure(steps: int, settings: Settings, report: Report) -> list[Row]:
    """Time a batch in each way; return a row for each."""

    def of_a_batch(way: Callable[[int, int, int], None]) -> float:
        seconds = []
        for batches in (settings.batches, 2 * settings.batches):
            start = time.perf_counter()
            way(batches, steps, settings.hidden_size)
            seconds.append(time.perf_counter() - start)
        return (seconds[1] - seconds[0]) / settings.batches

    ways = {name: functools.partial(of_a_batch, way) for name, way in WAYS.items()}
    times = timing.in_rounds(ways, settings.rounds, report)
    group = {"trials": WIDTH, "steps": steps, "H": settings.hidden_size}
    return timing.contestant_rows(times, HERE, group)


def page(rows: list[Row]) -> str:
    """Show the times of a batch, and their ratios."""
    sections = pages.medians_and_ratios(rows, KEYS, "One batch, ms", "ms")
    return pages.page("A sweep by workers", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="workers",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
)
