"""The engines whose workers are killed: a pool, Dask and submitit, on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import seqcells as sc
from seqcells import _check

Options = dict[str, Any]  # arguments of `sweep.run`


@contextlib.contextmanager
def here(out: Path, workers: int) -> Iterator[Options]:
    """No workers."""
    yield {"save_seconds": 60}


@contextlib.contextmanager
def pool(out: Path, workers: int) -> Iterator[Options]:
    """A pool of processes, which breaks when one of them dies."""
    with sc.sweep.processes(workers) as executor:
        yield {"executor": executor, "save_seconds": 0.5}


@contextlib.contextmanager
def dask(out: Path, workers: int) -> Iterator[Options]:
    """Dask's workers, which it starts again."""
    distributed = _check.extra("distributed", "seqcells[workers]")
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield {"executor": client.get_executor(), "save_seconds": 0.5}


@contextlib.contextmanager
def submitit(out: Path, workers: int) -> Iterator[Options]:
    """Jobs of submitit, each a process that outlives the driver."""
    library = _check.extra("submitit", "seqcells[workers]")
    executor = library.LocalExecutor(out.with_name(f"{out.name}-jobs"))
    yield {"executor": executor, "in_flight": workers, "save_seconds": 0.5}


ENGINES: dict[str, Callable[[Path, int], AbstractContextManager[Options]]] = {
    one.__name__: one for one in (here, pool, dask, submitit)
}
