"""The machine: setup of a process for measuring, and the columns that describe the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import jax

import seqcells as sc
from experiments.lab import BadInput, commit, cores, processor, today
from seqcells.engines._machine import huge_pages, keeps_blocks, level_2

COLUMNS = ["machine", "cores", "date", "commit", "python", "jax", "seqcells"]


def prepare(count: int, devices: int = 1) -> None:
    """Pin this process to some cores and set up JAX; call it before any computation.

    Args:
        count: number of cores, the first of those that this process may use.
        devices: number of CPU devices that JAX makes.

    Raises:
        BadInput: if the machine has fewer cores, or cannot pin a process.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise BadInput(
            f"cores: expected a system that pins a process to its cores, which {platform.system()} "
            "does not; run this on Linux"
        )
    mine = sorted(os.sched_getaffinity(0))
    if count > len(mine):
        raise BadInput(
            f"cores: expected at most the {len(mine)} that this process may use, got {count}; "
            f"give --cores {len(mine)}"
        )
    os.sched_setaffinity(0, mine[:count])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # else compile times depend on disks
    if devices > 1:
        jax.config.update("jax_num_cpu_devices", devices)


def describe() -> str:
    """Describe the processor by what affects speed, such as "AMD EPYC, AVX-512, 1024 KiB of L2"."""
    cache = level_2()
    caches = [f"{cache >> 10} KiB of L2"] if cache else []
    memory = [*["huge pages"] * huge_pages(), *["kept blocks"] * keeps_blocks()]
    return ", ".join([processor(), *caches, *memory])


def about() -> dict[str, str | int]:
    """Return the values of `COLUMNS`: machine, time and code of a measurement."""
    code = commit("seqcells", ":(glob)benchmarks/**/*.py")
    versions = platform.python_version(), jax.__version__, sc.__version__
    values = (describe(), cores(), today(), code, *versions)
    return dict(zip(COLUMNS, values, strict=True))


def version(package: str) -> str:
    """Return a package and its version, such as "flax 0.12.8"."""
    own = package == "seqcells"  # seqcells may run from a clone without being installed
    return f"{package} {sc.__version__ if own else importlib.metadata.version(package)}"


def cpu(count: int) -> str:
    """Return the name of a CPU for file names: cpu-1core, cpu-2cores."""
    return f"cpu-{count}core{'s' if count > 1 else ''}"
