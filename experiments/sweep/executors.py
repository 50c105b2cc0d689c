"""Executors by their name on the command line: a pool, Dask or submitit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.lab import BadInput
from seqcells import _check, sweep

FORMS = "processes:2, dask://host:8786, submitit or submitit:jobs=8,timeout_min=240"
JOBS = 8  # of submitit at a time
PATIENCE = 10.0  # seconds to wait for the scheduler of Dask
Options = dict[str, Any]  # arguments of `sweep.run`


@contextlib.contextmanager
def started(text: str | None, out: Path) -> Iterator[Options]:
    """Start or reach the executor of a name, until the block ends; None means this process.

    Raises:
        BadInput: the text has none of the forms, or nothing answers there.
    """
    if text is None:
        yield {}
        return
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise BadInput(f"executor: expected {FORMS}, got {text!r}")
    with _KINDS[kind](text, rest, out) as options:
        yield options


@contextlib.contextmanager
def _processes(text: str, rest: str, out: Path) -> Iterator[Options]:
    if not (rest.isdecimal() and int(rest)):
        raise BadInput(f"executor: expected processes:N, with a number of processes, got {text!r}")
    with sweep.processes(int(rest)) as pool:
        yield {"executor": pool}


@contextlib.contextmanager
def _dask(text: str, rest: str, out: Path) -> Iterator[Options]:
    library = _check.extra("distributed", "seqcells[workers]")
    try:
        client = library.Client(f"tcp:{rest}", timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise BadInput(
            f"executor: expected the scheduler of Dask at {text}, got no answer ({error}); start "
            "one with: dask scheduler"
        ) from None
    with client:
        yield {"executor": client.get_executor()}


@contextlib.contextmanager
def _submitit(text: str, rest: str, out: Path) -> Iterator[Options]:
    library = _check.extra("submitit", "seqcells[workers]")
    pairs = (pair.partition("=") for pair in rest.split(",") if pair)
    parameters = {name: value for name, _, value in pairs}
    jobs = parameters.pop("jobs", str(JOBS))
    if not (jobs.isdecimal() and int(jobs)):
        raise BadInput(f"executor: expected jobs=N, with a number of jobs at a time, got {text!r}")
    executor = library.AutoExecutor(out / "jobs")
    try:
        executor.update_parameters(**{name: _number(value) for name, value in parameters.items()})
    except (NameError, TypeError, ValueError) as error:
        raise BadInput(
            f"executor: expected parameters of submitit, got {text!r} ({error})"
        ) from None
    yield {"executor": executor, "in_flight": int(jobs)}


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


_KINDS = {"processes": _processes, "dask": _dask, "submitit": _submitit}
