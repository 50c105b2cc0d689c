"""A pool of processes on this machine, which share its cores and its GPUs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from seqcells import _check

GPUS = Path("/proc/driver/nvidia/gpus")  # on Linux
MEMORY = 0.75  # share of a GPU's memory that JAX takes by default


def processes(count: int) -> ProcessPoolExecutor:
    """Make a pool of processes for `run(executor=)`, on this machine.

    Each process runs on its own cores, as far as there are enough, and computes on its own GPU. If
    there are fewer GPUs than processes, several share one, and each gets its part of the memory.
    Ctrl-C reaches the process that called `run` only.

    Args:
        count: the number of processes.

    Returns:
        A pool of `concurrent.futures`, whose processes are spawned; use it as a context, so that
        the processes end.

    >>> with sc.sweep.processes(2) as pool:  # doctest: +SKIP
    ...     result = sc.sweep.run(make, space, 1000, out="runs/x", batch=16, executor=pool)
    """
    count = _check.size("count", count, least=1)
    context = multiprocessing.get_context("spawn")
    begun = context.Value("i", 0)
    return ProcessPoolExecutor(
        count, mp_context=context, initializer=_begin, initargs=(begun, count)
    )


def _begin(begun: Synchronized[int], count: int) -> None:
    """Take a share of the machine; runs in a new process, before JAX starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with begun.get_lock():
        index, begun.value = begun.value % count, begun.value + 1
    with contextlib.suppress(AttributeError, OSError):  # not on Linux
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), index, count))
    os.environ |= gpu(_gpus(), index, count)


def share(cores: list[int], index: int, count: int) -> list[int]:
    """Return the cores of one of `count` processes: an equal part, or one that others use too."""
    each = max(1, len(cores) // count)
    first = index * each % len(cores)
    return cores[first : first + each]


def gpu(names: list[str], index: int, count: int) -> dict[str, str]:
    """Return the environment that gives a process its GPU; {} if there are none."""
    if not names:
        return {}
    sharing = -(-count // len(names))
    return {
        "CUDA_VISIBLE_DEVICES": names[index % len(names)],
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY / sharing:.3f}",
    }


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(i) for i in range(len(list(GPUS.glob("*"))))]
