"""A sweep from its space to its table."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from seqcells import _check, distributed
from seqcells._signals import deferred
from seqcells.sweep._bucket import Bucket, buckets, heed
from seqcells.sweep._chunk import Chunk
from seqcells.sweep._plan import Halving, plan, settings
from seqcells.sweep._space import Space
from seqcells.sweep._store import ABOUT, Folder, Memory, read
from seqcells.sweep._table import AllFailed, Result


class Progress(NamedTuple):
    """What `on_segment` is told after each segment."""

    static: dict[str, Any]  # of the bucket
    step: int  # that the chunk has reached
    alive: int  # members that are training
    finished: int  # trials that have a row, of
    total: int  # this process's
    best: float  # mean metric of the chunk's best member; NaN if there is none


def run(
    make: Callable[..., Any],
    space: Space,
    steps: int,
    *,
    segment: int = 100,
    metric: str = "loss",
    mode: Literal["min", "max"] = "min",
    out: str | os.PathLike[str] | None = None,
    chunk: int | Literal["auto"] = "auto",
    halving: Halving | None = None,
    key: jax.Array | None = None,
    on_segment: Callable[[Progress], object] | None = None,
    config: dict[str, Any] | None = None,
    save_seconds: float = 60.0,
) -> Result:
    """Train every trial of a space, many as one program, and tell what each has reached.

    A bucket (trials of equal static fields) is trained in chunks of one width, each advanced by a
    jitted segment at a time. One program is compiled a bucket and width. A trial's bits depend on
    its configuration, `key`, the width, jax and the devices; not on the other trials, unless they
    prune it. A trial whose metric is not finite is frozen as it was before that segment, and ranks
    last.

    With `out`, a run that is killed at any moment and called again ends with the same bits; trials
    with a row are not run again, and the space may grow. SIGTERM and SIGINT end the segment and
    save first.

    Of several processes (`seqcells.distributed`) each trains every n-th trial on its own devices,
    in its own folder in `out`, and none waits for another before the end. Bits depend on their
    number, too: with another one finished trials are kept, and what is unfinished begins anew.

    Args:
        make: static fields by name -> a task (see `Task`), such as `from_loss` makes.
        space: what is tried.
        steps: of every trial, a multiple of `segment`.
        segment: steps between two looks at the host; at most `steps`.
        metric: by which trials are ranked and pruned.
        mode: "min" where less is better, else "max".
        out: a folder for results and checkpoints, which all processes see; needs the extra
            `sweep`. None: memory alone, of one process.
        chunk: members to train together, rounded up to share out evenly among the devices; "auto":
            a whole bucket, or as many as fit into memory.
        halving: prunes the worst on the way.
        key: of the whole sweep, `jax.random.key(0)` if there is none; a trial has its own, folded
            with its id.
        on_segment: called after each segment.
        config: what else the results depend on, as JSON has it; another one is refused.
        save_seconds: between two checkpoints; 0 saves after every segment.

    Returns:
        The table, in the order of `space.trials()`.

    Raises:
        ValueError: an argument is not what it should be, a task does not keep to the contract, or
            its program does not fit into memory; or `out` is of another configuration.
        AllFailed: every trial has ended with a NaN; the table is written, and is `error.result`.
        RunLocked: another run uses `out`.
        SystemExit: with code 143, after SIGTERM.
        KeyboardInterrupt: after SIGINT.
    """
    key = jax.random.key(0) if key is None else key
    made = plan(make, steps, segment, metric, mode, chunk, halving, key, save_seconds)
    if not isinstance(space, Space):
        raise TypeError(f"space: expected a sweep.Space, got {_check.describe_one(space)}")
    trials, process = space.trials(), _process()
    share = trials[process[0] :: process[1]]  # whatever is finished, so that it stays the same
    store = _store(out, settings(made, config), process)

    def tell(chunk: Chunk, static: dict[str, Any]) -> None:
        if on_segment is not None:
            values = made.sign * chunk.record.metrics[made.metric][chunk.slots[chunk.alive]]
            best = made.sign * min(values, default=math.nan)
            finished = sum(trial.id in store.rows for trial in share)
            on_segment(Progress(static, chunk.step, len(values), finished, len(share), best))

    def result() -> Result:
        return Result.of(trials, *store.everything(), metric, mode)

    with deferred() as stop, store.open():
        try:
            for bucket in buckets(share):
                Bucket(made, store, bucket).run(stop, tell)
            distributed.wait("sweep", lambda: heed(stop))
        finally:
            if out is not None and process[0] == 0:
                result().to_csv(Path(out) / "results.csv")
    table = result()
    if all(row["status"] == "diverged" for row in table.rows):
        raise AllFailed(table)
    return table


def load(out: str | os.PathLike[str], space: Space) -> Result:
    """Read what a run has kept in a folder, also while it goes on; nothing is written.

    Args:
        out: its folder.
        space: what it tries, or a part of it.

    Returns:
        The table, in the order of `space.trials()`; `status` is "unfinished" where no row is yet.

    Raises:
        FileNotFoundError: there is no sweep in the folder.
    """
    config, rows, history = read(Path(out))
    if not config:
        raise FileNotFoundError(f"out: expected a folder of a sweep, with {ABOUT}, got {out}")
    return Result.of(space.trials(), rows, history, config["metric"], config["mode"])


def _process() -> tuple[int, int]:
    """Which this is, of how many."""
    return jax.process_index(), jax.process_count()


def _store(out: Any, settings: dict[str, Any], process: tuple[int, int]) -> Memory:
    if out is not None:
        return Folder(out, settings, process)
    if process[1] > 1:
        raise ValueError(
            f"out: expected a folder that all {process[1]} processes see, got None; they share "
            "nothing else"
        )
    return Memory()
