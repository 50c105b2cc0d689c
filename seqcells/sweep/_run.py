"""A sweep, from its space to its table."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from seqcells import _check, distributed
from seqcells._signals import deferred
from seqcells._types import Json
from seqcells.sweep._batch import Batch
from seqcells.sweep._bucket import Bucket, buckets, exit_if_signalled
from seqcells.sweep._plan import Halving, Plan
from seqcells.sweep._space import Space, Static
from seqcells.sweep._store import ABOUT, Folder, Memory, read
from seqcells.sweep._table import AllFailed, Result


class Progress(NamedTuple):
    """The progress of a sweep, passed to `on_segment` after each segment."""

    static: Static  # static fields of the bucket
    step: int  # steps that the trials of the batch have taken
    alive: int  # trials of the batch that are still training
    finished: int  # trials with a row, out of `total`
    total: int  # trials of this process
    best: float  # mean metric of the best trial alive in the batch; NaN if none is alive


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
    key: jax.Array | None = None,
    on_start: Callable[[], object] | None = None,
    on_segment: Callable[[Progress], object] | None = None,
    config: Json | None = None,
    save_seconds: float = 60.0,
) -> Result:
    """Train every trial of a space, many in one program, and return their results.

    A bucket (the trials with equal static fields) is trained in batches of one width. A jitted
    program advances a batch by a segment at a time; one program is compiled per bucket and width.
    The bits of a trial depend on its configuration, `key`, the width, jax and the devices (on a
    CPU also on its caches and memory settings, by which engines choose their schedule). They do not
    depend on other trials, unless those prune it. A trial whose metric is not finite keeps its
    state from before that segment, and ranks last.

    With `out`, a run that is killed at any moment and called again ends with the same bits. Trials
    with a row are not run again, and the space may grow. On SIGTERM and SIGINT the run finishes its
    segment, saves and exits.

    With several processes (`seqcells.distributed`), each trains every n-th trial on its own
    devices, in its own folder in `out`, and waits for the others only at the end. Bits then also
    depend on the number of processes: if it changes, finished trials are kept and the others start
    again.

    Args:
        make: static fields by name -> a task (see `Task`), such as one of `from_loss`. Values held
            by a `functools.partial` or a bound method count as settings. Values held by a closure
            cannot be read, so name them in `config`.
        space: the trials.
        steps: steps of every trial, a multiple of `segment`.
        segment: steps per call of the program; at most `steps`.
        metric: the metric by which trials are ranked and pruned.
        mode: "min" if a lower metric is better, else "max".
        out: a folder for results and checkpoints, visible to all processes; needs the extra
            `sweep`. None keeps results in memory, and works with one process only.
        batch: trials to train together, rounded up to a multiple of the number of devices; "auto":
            a whole bucket, or as many as fit into memory.
        halving: prunes the worst trials during training.
        key: the key of the sweep, by default `jax.random.key(0)`. The key of a trial is this one,
            folded with the trial's id. It must be a threefry2x32 key: under vmap, other keys draw
            bits that depend on the other trials.
        on_start: called before training, once `out` is locked and its settings are checked; write
            your own files into `out` here.
        on_segment: called after each segment.
        config: further settings that the results depend on, as JSON; a folder with other settings
            is rejected.
        save_seconds: seconds between two checkpoints; 0 saves after every segment.

    Returns:
        The table, in the order of `space.trials()`.

    Raises:
        ValueError: an argument is out of range, a task does not return what `Task` requires, its
            program does not fit into memory, or `out` has another configuration.
        TypeError: an argument has the wrong type.
        AllFailed: every trial ended with NaN; the table is written, and is `error.result`.
        RunLocked: another run uses `out`.
        SystemExit: with code 143, after SIGTERM.
        KeyboardInterrupt: after SIGINT.
    """
    plan = Plan(
        make=make,
        steps=steps,
        segment=segment,
        metric=metric,
        mode=mode,
        batch=batch,
        halving=halving,
        key=jax.random.key(0, impl="threefry2x32") if key is None else key,
        save_seconds=save_seconds,
    ).checked()
    plan.check_space(space)
    store = _store(out, plan.settings(config), _process())
    table = _train(plan, space, store, on_start, on_segment)
    if all(row["status"] == "diverged" for row in table.rows):
        raise AllFailed(table)
    return table


def _train(
    plan: Plan,
    space: Space,
    store: Memory,
    on_start: Callable[[], object] | None,
    on_segment: Callable[[Progress], object] | None,
) -> Result:
    """Train this process's trials, wait for the other processes, and write the table."""
    rank, count = _process()
    share = space.trials()[rank::count]  # finished or not, so that a resumed run has the same share

    def report(batch: Batch, static: Static) -> None:
        if on_segment is not None:
            values = plan.sign * batch.record.metrics[plan.metric][batch.slots[batch.alive]]
            best = plan.sign * min(values, default=math.nan)
            finished = sum(trial.id in store.rows for trial in share)
            on_segment(Progress(static, batch.step, len(values), finished, len(share), best))

    def result() -> Result:
        return Result.of(space.columns(), *store.everything(), metric=plan.metric, mode=plan.mode)

    with deferred() as stop, store.locked():
        if on_start is not None:
            on_start()
        try:
            for bucket in buckets(share):
                Bucket(plan, store, bucket).run(stop, report)
            distributed.wait("sweep", lambda: exit_if_signalled(stop))
        finally:
            if isinstance(store, Folder) and rank == 0:
                result().to_csv(store.out / "results.csv")
    return result()


def load(
    out: str | os.PathLike[str],
    space: Space,
    history: Literal["all", "unfinished"] = "all",
) -> Result:
    """Read the results in a folder, even while a run writes to it; writes nothing.

    Args:
        out: the folder of the sweep.
        space: its space, or a part of it.
        history: "unfinished" reads the history of unfinished trials alone, which is faster.

    Returns:
        The table, in the order of `space.trials()`; `status` is "unfinished" for a trial without a
        row.

    Raises:
        FileNotFoundError: there is no sweep in the folder.
        ValueError: a file is damaged, or `history` is another word.
    """
    _check.choice("history", history, ("all", "unfinished"))
    trials = space.columns()
    left_of = trials["id"] if history == "unfinished" else ()
    settings, rows, lines = read(Path(out), left_of)
    if not {"metric", "mode"} <= settings.keys():
        raise FileNotFoundError(f"out: expected a folder of a sweep, with {ABOUT}, got {out}")
    metric, mode = settings["metric"], settings["mode"]
    if history == "unfinished":
        finished = set(rows.texts["id"].values)
        lines = lines.where_id([id not in finished for id in lines.texts["id"].values])
    return Result.of(trials, rows, lines, metric=metric, mode=mode)


def _process() -> tuple[int, int]:
    """Return the index of this process and the number of processes."""
    return jax.process_index(), jax.process_count()


def _store(out: str | os.PathLike[str] | None, settings: Json, process: tuple[int, int]) -> Memory:
    if out is not None:
        return Folder(out, settings, process)
    if process[1] > 1:
        raise ValueError(
            f"out: expected a folder that all {process[1]} processes see, got None; they share "
            "nothing else"
        )
    return Memory()
