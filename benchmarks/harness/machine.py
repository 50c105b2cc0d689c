"""The machine: what a run may use of it, and what its rows say of where they were made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import jax

import seqcells as sc
from experiments import lab
from experiments.lab import BadInput, whole

COLUMNS = ["machine", "cores", "date", "commit", "python", "jax", "seqcells"]


def prepare(cores: int, devices: int = 1) -> None:
    """Pin this process to some cores and set up JAX, before anything is computed.

    Args:
        cores: how many cores, counted from the first that this process may use.
        devices: how many CPU devices JAX makes of them.
    """
    whole("cores", cores, least=1)
    whole("devices", devices, least=1)
    if not hasattr(os, "sched_setaffinity"):
        raise BadInput(
            f"cores: expected a system that pins a process to its cores, which {platform.system()} "
            "does not; run this on Linux"
        )
    mine = sorted(os.sched_getaffinity(0))
    if cores > len(mine):
        raise BadInput(
            f"cores: expected at most the {len(mine)} that this process may use, got {cores}; "
            f"give --cores {len(mine)}"
        )
    os.sched_setaffinity(0, mine[:cores])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # or compile times would be of disks
    if devices > 1:
        jax.config.update("jax_num_cpu_devices", devices)


def about() -> dict[str, Any]:
    """Say where and of what a row is made; the values of `COLUMNS`."""
    made = (
        lab.processor(),
        lab.cores(),
        lab.today(),
        lab.commit("seqcells", ":(glob)benchmarks/**/*.py"),
        platform.python_version(),
        jax.__version__,
        sc.__version__,
    )
    return dict(zip(COLUMNS, made, strict=True))


def version(package: str) -> str:
    """Return a package and its version, such as "flax 0.12.8"."""
    own = package == "seqcells"  # which runs from a clone, too
    return f"{package} {sc.__version__ if own else importlib.metadata.version(package)}"


def stem(command: str, cores: int) -> str:
    """Name a table's files: peers-cpu-1core, peers-cpu-2cores."""
    return f"{command}-cpu-{cores}core{'s' if cores > 1 else ''}"
