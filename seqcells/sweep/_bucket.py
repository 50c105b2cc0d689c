"""A bucket: trials of equal static fields, begun where a checkpoint is, until each has a row."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from seqcells import _check, distributed
from seqcells._signals import Stop
from seqcells.sweep._chunk import Chunk, blank, columns
from seqcells.sweep._plan import Plan
from seqcells.sweep._program import Program, build, fitting, power_of_two, shared
from seqcells.sweep._space import TAKEN, Trial, canonical, digest
from seqcells.sweep._store import Memory


class Bucket:
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
        program = build(
            self._task, columns(self.trials[:1]), width, plan.segment, plan.metric, plan.key
        )
        both = [name for name in program.metrics if name in (*TAKEN, *self.trials[0].fields)]
        if both:
            raise ValueError(
                f"segment: expected metrics named unlike the fields of the space and the table's "
                f"own {', '.join(TAKEN)}, got {', '.join(both)}"
            )
        return program

    def _width(self) -> int:
        """The width that this bucket was first run with, or that is asked for, or that fits."""
        chunk, kept = self.plan.chunk, self.store.widths.get(self.id)
        if kept is not None and kept != shared(kept):
            raise ValueError(
                f"out: expected a number of devices that shares {kept} members evenly, as those "
                f"did that it was begun with, got {jax.local_device_count()}"
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
                heed(stop)
            distributed.beat()
            store.log(chunk.advance(plan.segment))
            distributed.beat()
            narrower = self._rung(chunk)
            tell(chunk, self.static)
            if narrower or time.monotonic() - saved >= plan.save_seconds:
                self._save(chunk)
                saved = time.monotonic()
        chunk.finish()
        store.record(chunk.rows())
        self._clear()
        heed(stop)

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


def buckets(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Trials of equal static fields, which stand together."""
    for _, bucket in itertools.groupby(
        trials, lambda trial: {name: canonical(value) for name, value in trial.static.items()}
    ):
        yield list(bucket)


def heed(stop: Stop) -> None:
    """End the run if a signal has come."""
    if stop:
        raise KeyboardInterrupt if stop.exit_code == 130 else SystemExit(stop.exit_code)
