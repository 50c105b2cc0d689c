"""A sweep, from its space to its table."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax

from seqcells import _check
from seqcells._signals import deferred
from seqcells._types import Json
from seqcells.sweep._driver import Standing, Sweep, driving, run_here
from seqcells.sweep._executor import Executor, check, run_there
from seqcells.sweep._lines import Row
from seqcells.sweep._pbt import PBT
from seqcells.sweep._plan import Halving, Plan
from seqcells.sweep._space import Space, Static, Trial
from seqcells.sweep._store import Folder, Memory
from seqcells.sweep._table import AllFailed, Result


class Progress(NamedTuple):
    """The progress of a batch and of its sweep, passed to `on_segment` after each segment.

    With an executor, it is passed when a batch is seen to have got further, twice a second at most.
    """

    static: Static  # static fields of the batch
    step: int  # steps that the trials of the batch have taken
    alive: int  # trials of the batch that are still training
    finished: int  # trials with a row, out of `total`
    total: int
    training: int  # steps that the trials in training have taken in all, of all batches
    best: float  # best metric of the trials alive in the batch; NaN if none is alive
    rows: Sequence[Row] = ()
    # of each trial that was trained in this segment: `id`, its fields, `steps` and its mean metrics


def run(
    make: Callable[..., Any],
    space: Space,
    steps: int,
    *,
    segment: int = 100,
    metric: str = "loss",
    mode: Literal["min", "max"] = "min",
    out: str | os.PathLike[str] | None = None,
    batch: int | Literal["auto"] = "auto",
    halving: Halving | None = None,
    pbt: PBT | None = None,
    key: jax.Array | None = None,
    on_start: Callable[[], object] | None = None,
    on_segment: Callable[[Progress], object] | None = None,
    config: Json | None = None,
    save_seconds: float = 60.0,
    minutes: float | None = None,
    executor: Executor | None = None,
    in_flight: int = 1000,
) -> Result:
    """Train every trial of a space, many in one program, and return their results.

    A bucket (the trials with equal static fields) is trained in batches of one width. A jitted
    program advances a batch by a segment at a time; one program is compiled per bucket and width.
    The bits of a trial depend on its configuration, `key`, the width, jax and the devices (on a
    CPU also on its caches and memory settings, by which engines choose their schedule). They do not
    depend on other trials, unless those prune or replace it. A trial whose metric is not finite
    keeps its state from before that segment, and ranks last.

    With `out`, a run that is killed at any moment and called again ends with the same bits. Trials
    with a row are not run again, and the space may grow. On SIGTERM and SIGINT the run finishes its
    segment, saves and exits.

    With an `executor`, workers train the batches. Each batch has a folder of its own in `out`, with
    its lock and its checkpoint, so a worker or this process may die at any moment: the results are
    those of a run in one process of the workers' kind, to the bit. Call `run` again to go on.

    Args:
        make: static fields by name -> a task (see `Task`), such as one of `from_loss`. Values held
            by a `functools.partial` or a bound method count as settings. Values held by a closure
            cannot be read, so name them in `config`.
        space: the trials.
        steps: steps of every trial, a multiple of `segment`.
        segment: steps per call of the program; at most `steps`.
        metric: the metric by which trials are ranked and pruned.
        mode: "min" if a lower metric is better, else "max".
        out: a folder for results and checkpoints, visible to all workers; needs the extra
            `sweep`. None keeps results in memory, and works without an executor only.
        batch: trials to train together, rounded up to a multiple of the number of devices; "auto":
            a whole bucket, or as many as fit into memory. With an executor, a batch is what one
            worker trains at a time, and "auto" is a bucket, but at most 32 trials.
        halving: prunes the worst trials during training.
        pbt: trains each bucket as a population, in which copies of the best trials replace the
            worst ones; a batch is then a whole bucket, and the space cannot grow. Not together
            with `halving`.
        key: the key of the sweep, by default `jax.random.key(0)`. The key of a trial is this one,
            folded with the trial's id. It must be a threefry2x32 key: under vmap, other keys draw
            bits that depend on the other trials.
        on_start: called before training, once `out` is locked and its settings are checked; write
            your own files into `out` here.
        on_segment: called after each segment.
        config: further settings that the results depend on, as JSON; a folder with other settings
            is rejected.
        save_seconds: seconds between two checkpoints; 0 saves after every segment.
        minutes: stop after this time: finish the segments, save, and return a table in which trials
            are "unfinished". None: no limit.
        executor: has `submit(f, *args)`, which returns a future with `done`, `result` and `cancel`:
            `processes(n)`, a `ProcessPoolExecutor` that spawns, or an executor of loky, Dask
            (`client.get_executor()`), submitit or mpi4py. What it sends must be known to pickle:
            `make`, a function of a module, and the static values.
        in_flight: batches that are submitted at a time, at most.

    Returns:
        The table, in the order of `space.trials()`.

    Raises:
        ValueError: an argument is out of range, a task does not return what `Task` requires, its
            program does not fit into memory, `out` has another configuration, a pool forks, or a
            worker has another version of JAX, kind of processor or number of devices than the
            first.
        TypeError: an argument has the wrong type, or pickle cannot send it.
        AllFailed: every trial ended with NaN; the table is written, and is `error.result`.
        RunLocked: another run uses `out`.
        WorkersLost: the workers of a pool have died; what is trained is kept.
        SystemExit: with code 143, after SIGTERM.
        KeyboardInterrupt: after SIGINT.
    """
    plan = Plan.of(
        make=make,
        steps=steps,
        segment=segment,
        metric=metric,
        mode=mode,
        batch=batch,
        halving=halving,
        pbt=pbt,
        key=key,
        save_seconds=save_seconds,
    ).of_space(space)
    store = Memory() if out is None else Folder(out, plan.settings(config))
    trials = space.trials()
    train = trainer(executor, in_flight, plan, trials, store)

    def result() -> Result:
        return Result.of(space.columns(), *store.everything(), metric=metric, mode=plan.mode)

    with session(store, minutes, result, on_start) as (stop, run):
        ids = {trial.id for trial in trials}
        others = len(store.done - ids)  # rows of trials that are not in this space
        report = progress(on_segment, lambda: len(store.done) - others, len(ids))
        train(Sweep(plan, trials, store, stop, report, run, {}))
    return checked(result())


@contextlib.contextmanager
def session(
    store: Memory,
    minutes: float | None,
    result: Callable[[], Result],
    on_start: Callable[[], object] | None = None,
) -> Iterator[tuple[Callable[[], bool], str]]:
    """Hold a store while trials are trained; then write the table, and exit after a signal.

    Args:
        store: where the results are.
        minutes: the time after which training stops; None: no limit.
        result: returns the table of what is trained.
        on_start: called once the store is held.

    Yields:
        A function that says whether to stop, and the name of the run.
    """
    if minutes is not None:
        _check.positive("minutes", minutes)
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    with deferred() as signalled, store.locked(), driving(store) as run:
        if on_start is not None:
            on_start()
        try:
            yield lambda: bool(signalled) or time.monotonic() >= end, run
        finally:
            if isinstance(store, Folder) and (table := result()).rows:
                table.to_csv(store.out / "results.csv")
        if signalled:
            raise KeyboardInterrupt if signalled.exit_code == 130 else SystemExit(143)


def checked(table: Result) -> Result:
    """Return a table; raise if all of its trials have diverged."""
    if set(table.column("status")) == {"diverged"}:
        raise AllFailed(table)
    return table


def trainer(
    executor: Executor | None, in_flight: int, plan: Plan, trials: Sequence[Trial], store: Memory
) -> Callable[[Sweep], None]:
    """Return what trains these trials: this process, or the workers of an executor, checked."""
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        raise ValueError(
            f"executor: expected a sweep in one process, which has batches trained by workers, got "
            f"{jax.process_count()} processes of jax.distributed; start one, and pass executor="
        )
    if executor is None:
        return run_here
    check(executor, plan, trials, store)
    in_flight = _check.size("in_flight", in_flight, least=1)
    return functools.partial(run_there, executor=executor, in_flight=in_flight)


def progress(
    on_segment: Callable[[Progress], object] | None, finished: Callable[[], int], total: int
) -> Callable[[Standing], None]:
    """Return a function that passes the standing of a batch to `on_segment`."""

    def report(at: Standing) -> None:
        if on_segment is not None:
            shown = at._replace(rows=at.rows())._asdict()
            on_segment(Progress(**shown, finished=finished(), total=total))

    return report
