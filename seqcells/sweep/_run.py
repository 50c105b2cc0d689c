"""The loop on the host: segments, rungs, checkpoints and signals, until every trial has a row."""

from __future__ import annotations

import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from seqcells import _check
from seqcells._signals import Stop, deferred
from seqcells.sweep._chunk import Chunk, blank, columns
from seqcells.sweep._program import Program, build, fitting, power_of_two, shared
from seqcells.sweep._space import Space, Trial, canonical, digest
from seqcells.sweep._store import Folder, Memory
from seqcells.sweep._table import AllFailed, Result


class Halving(NamedTuple):
    """Successive halving (Jamieson & Talwalkar 2016), among the members of a chunk.

    After every `every` steps the best `keep` of those alive go on, by the mean metric of the
    last segment, in a program of the next power of two.
    """

    every: int  # steps, a multiple of the segment
    keep: float = 0.5  # the share that goes on, above 0 and below 1


class Progress(NamedTuple):
    """What `on_segment` is told after each segment."""

    static: dict[str, Any]  # of the bucket
    step: int  # that the chunk has reached
    alive: int  # members that are training
    finished: int  # trials that have a row
    total: int  # trials
    best: float  # mean metric of the chunk's best member; NaN if there is none


class Plan(NamedTuple):
    """What is the same for every chunk."""

    make: Callable[..., Any]
    steps: int
    segment: int
    metric: str
    sign: int  # of the metric, so that less is better
    chunk: int | str
    halving: Halving | None
    key: jax.Array
    save_seconds: float


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

    Args:
        make: static fields by name -> a task (see `Task`), such as `from_loss` makes.
        space: what is tried.
        steps: of every trial, a multiple of `segment`.
        segment: steps between two looks at the host; at most `steps`.
        metric: by which trials are ranked and pruned.
        mode: "min" where less is better, else "max".
        out: a folder for results and checkpoints; needs the extra `sweep`. None: memory alone.
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
    plan = _plan(make, steps, segment, metric, mode, chunk, halving, key, save_seconds)
    if not isinstance(space, Space):
        raise TypeError(f"space: expected a sweep.Space, got {_check.describe_one(space)}")
    trials = space.trials()
    store = Memory() if out is None else Folder(out, _settings(plan, config))

    def tell(chunk: Chunk, static: dict[str, Any]) -> None:
        if on_segment is not None:
            values = plan.sign * chunk.record.metrics[plan.metric][chunk.slots[chunk.alive]]
            best = plan.sign * min(values, default=math.nan)
            finished = sum(trial.id in store.rows for trial in trials)
            on_segment(Progress(static, chunk.step, len(values), finished, len(trials), best))

    def result() -> Result:
        return Result.of(trials, store.rows, store.history, metric, mode)

    with deferred() as stop, store.open():
        try:
            for bucket in _buckets(trials):
                _Bucket(plan, store, bucket).run(stop, tell)
        finally:
            if out is not None:
                result().to_csv(Path(out) / "results.csv")
    table = result()
    if all(row["status"] == "nan" for row in table.rows):
        raise AllFailed(table)
    return table


class _Bucket:
    """Trials of equal static fields."""

    def __init__(self, plan: Plan, store: Memory, trials: Sequence[Trial]) -> None:
        self.plan, self.store, self.trials = plan, store, trials
        self.static = trials[0].static
        self.id = digest({name: canonical(value) for name, value in self.static.items()})
        self.program = functools.cache(self._build)

    def run(self, stop: Stop, tell: Callable[[Chunk, dict[str, Any]], None]) -> None:
        """Train those that have no row, beginning where a checkpoint is."""
        if self._todo():
            width = self._width()
            kept = self._resume(width)
            if kept is not None:
                self._train(kept, stop, tell)
            todo = self._todo()
            for some in (todo[i : i + width] for i in range(0, len(todo), width)):
                self._train(Chunk.begin(self.program(width), some), stop, tell)
        self._clear()

    def _todo(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.id not in self.store.rows]

    @functools.cached_property
    def _task(self) -> Any:
        task = self.plan.make(**self.static)
        if not callable(getattr(task, "init", None)) or not callable(
            getattr(task, "segment", None)
        ):
            came = _check.describe_one(task)
            raise TypeError(f"make: expected to return a task with init and segment, got {came}")
        return task

    def _build(self, width: int) -> Program:
        plan = self.plan
        return build(
            self._task, columns(self.trials[:1]), width, plan.segment, plan.metric, plan.key
        )

    def _width(self) -> int:
        """The width that this bucket was first run with, or that is asked for, or that fits."""
        chunk, kept = self.plan.chunk, self.store.widths.get(self.id)
        if kept is not None and kept != shared(kept):
            raise ValueError(
                f"out: expected a number of devices that shares {kept} members evenly, as those did "
                f"that it was begun with, got {jax.device_count()}"
            )
        asked = power_of_two(len(self.trials)) if isinstance(chunk, str) else shared(chunk)
        fixed = kept is not None or not isinstance(chunk, str)
        width = fitting(self.program, kept or asked, fixed=fixed).width
        if kept is None:
            self.store.fix_width(self.id, width)
        return width

    def _resume(self, first: int) -> Chunk | None:
        """Return the chunk that was being trained, if all of it is still wanted."""
        known = {int(trial.id, 16) for trial in self.trials}
        for width in self.store.begun(self.id):
            program = self.program(width)
            saved = self.store.checkpoints(self.id, width).load(like=blank(program, first))
            if saved is None:
                continue
            ids = saved.tree.record.ids
            todo = {int(trial.id, 16) for trial in self._todo()}
            if set(ids[ids >= 0]) <= known and todo & set(ids):
                return Chunk(program, saved.tree, saved.step)
            break
        self._clear()
        return None

    def _train(self, chunk: Chunk, stop: Stop, tell: Callable[..., None]) -> None:
        plan, store = self.plan, self.store
        reached = {row["id"]: chunk.step for row in chunk.rows()}
        store.rewind({id: step for id, step in reached.items() if id not in store.rows})
        saved = time.monotonic()
        while chunk.step < plan.steps and chunk.alive.any():
            if stop:
                self._save(chunk)
                _heed(stop)
            store.log(chunk.advance(plan.segment))
            narrower = self._rung(chunk)
            tell(chunk, self.static)
            if narrower or time.monotonic() - saved >= plan.save_seconds:
                self._save(chunk)
                saved = time.monotonic()
        chunk.finish()
        store.record(chunk.rows())
        self._clear()
        _heed(stop)

    def _rung(self, chunk: Chunk) -> bool:
        """Prune, if it is time to; say whether the program is another now."""
        halving, before = self.plan.halving, chunk.program
        alive = int(chunk.alive.sum())
        if halving and alive and chunk.step < self.plan.steps and chunk.step % halving.every == 0:
            order = self.plan.sign * chunk.record.metrics[self.plan.metric]
            chunk.halve(math.ceil(halving.keep * alive), order, self.program)
        return chunk.program is not before

    def _save(self, chunk: Chunk) -> None:
        """Save, and only then remove what was saved at a greater width."""
        width = chunk.program.width
        checkpoints = self.store.checkpoints(self.id, width)
        if checkpoints is not None:
            self.store.settle()
            checkpoints.save(chunk.step, chunk.saved)
            self._clear(above=width)

    def _clear(self, above: int = 0) -> None:
        """Remove checkpoints, the oldest (widest) first."""
        for width in reversed(self.store.begun(self.id)):
            if width > above:
                self.store.checkpoints(self.id, width).delete()


def _buckets(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Trials of equal static fields, which stand together."""
    for _, bucket in itertools.groupby(
        trials, lambda trial: {name: canonical(value) for name, value in trial.static.items()}
    ):
        yield list(bucket)


def _heed(stop: Stop) -> None:
    if stop:
        raise KeyboardInterrupt if stop.exit_code == 130 else SystemExit(stop.exit_code)


def _settings(plan: Plan, config: dict[str, Any] | None) -> dict[str, Any]:
    """What results depend on, as JSON has it."""
    key = plan.key if jax.dtypes.issubdtype(plan.key.dtype, jax.dtypes.prng_key) else None
    data = plan.key if key is None else jax.random.key_data(key)
    return {
        "config": config or {},
        "steps": plan.steps,
        "segment": plan.segment,
        "metric": plan.metric,
        "mode": "min" if plan.sign > 0 else "max",
        "chunk": plan.chunk,
        "halving": plan.halving and plan.halving._asdict(),
        "key": np.asarray(data).tolist(),
    }


def _plan(
    make: Any,
    steps: Any,
    segment: Any,
    metric: Any,
    mode: Any,
    chunk: Any,
    halving: Any,
    key: Any,
    save_seconds: float,
) -> Plan:
    if not callable(make):
        came = _check.describe_one(make)
        raise TypeError(f"make: expected a function of the static fields, got {came}")
    steps = _check.size("steps", steps, least=1)
    segment = min(_check.size("segment", segment, least=1), steps)
    _check.choice("mode", mode, ("min", "max"))
    _check.key("key", key)
    if chunk != "auto":
        chunk = _check.size("chunk", chunk, least=1)
    if steps % segment:
        raise ValueError(f"steps: expected a multiple of segment={segment}, got {steps}")
    if halving is not None:
        _check_halving(halving, segment)
    sign = 1 if mode == "min" else -1
    return Plan(make, steps, segment, metric, sign, chunk, halving, key, save_seconds)


def _check_halving(halving: Any, segment: int) -> None:
    if not isinstance(halving, Halving):
        came = _check.describe_one(halving)
        raise TypeError(f"halving: expected a sweep.Halving, got {came}")
    if _check.size("halving.every", halving.every, least=1) % segment:
        came = halving.every
        raise ValueError(f"halving.every: expected a multiple of segment={segment}, got {came}")
    if not 0 < halving.keep < 1:
        raise ValueError(f"halving.keep: expected a share between 0 and 1, got {halving.keep}")
