"""A bucket: the trials with equal static fields, trained batch by batch."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import jax

from seqcells import _check, distributed
from seqcells._signals import Stop
from seqcells.sweep._batch import Batch, columns, empty
from seqcells.sweep._plan import Plan
from seqcells.sweep._program import (
    Program,
    build,
    largest_that_fits,
    next_power_of_two,
    shared_evenly,
)
from seqcells.sweep._space import RESERVED, Static, Trial
from seqcells.sweep._store import Memory
from seqcells.sweep._task import Task

Report = Callable[[Batch, Static], None]  # called with the batch and the static fields


class Bucket:
    """Trials with equal static fields."""

    def __init__(self, plan: Plan, store: Memory, trials: Sequence[Trial]) -> None:
        self.plan, self.store, self.trials = plan, store, trials
        self.static = trials[0].static
        self.id = trials[0].bucket
        self.program = functools.cache(self._build)

    def run(self, stop: Stop, report: Report) -> None:
        """Train the trials without a row, starting with those of a checkpoint."""
        stored = self.store.widths.get(self.id)
        if stored and self._unfinished():
            resumed = self._resume(stored[0])
            if resumed is not None:
                self._train(resumed, stop, report)
        if left := self._unfinished():
            width = self._width()
            for trials in (left[i : i + width] for i in range(0, len(left), width)):
                self._train(Batch.begin(self.program(width), trials), stop, report)
        self.store.delete(self.id)

    def _unfinished(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.id not in self.store.rows]

    @functools.cached_property
    def _task(self) -> Task:
        task = self.plan.make(**self.static)
        if not all(callable(getattr(task, name, None)) for name in ("init", "segment")):
            got = _check.describe_one(task)
            raise TypeError(f"make: expected to return a task with init and segment, got {got}")
        if callable(check := getattr(task, "check", None)):
            for trial in self.trials:
                check(trial.hparams)
        return task

    def _build(self, width: int) -> Program:
        plan = self.plan
        hparams = columns(self.trials[:1])
        program = build(self._task, hparams, width, plan.segment, plan.metric, plan.key)
        both = [name for name in program.metrics if name in (*RESERVED, *self.trials[0].fields)]
        if both:
            raise ValueError(
                f"segment: expected metrics with other names than fields of the space and the "
                f"columns {', '.join(RESERVED)}, got {', '.join(both)}"
            )
        return program

    def _width(self) -> int:
        """Return the stored width, else the plan's, else the largest that fits.

        A bucket that has grown since its width was stored gets a new width.
        """
        stored, trials = self.store.widths.get(self.id, (None, 0))
        planned = self._planned(len(self.trials))
        if stored is not None and planned <= self._planned(trials):
            return largest_that_fits(self.program, stored, fixed=True).width
        fixed = self.plan.batch != "auto"
        width = largest_that_fits(self.program, planned, fixed=fixed).width
        self.store.fix_width(self.id, width, len(self.trials))
        return width

    def _planned(self, trials: int) -> int:
        """Return the width for this number of trials, if memory is no limit."""
        batch = self.plan.batch
        return next_power_of_two(trials) if batch == "auto" else shared_evenly(batch)

    def _resume(self, first: int) -> Batch | None:
        """Return the batch of the checkpoint, if the space has all of its trials."""
        if first != shared_evenly(first):
            raise ValueError(
                f"out: expected a number of devices that divides {first} trials, as when "
                f"the sweep was started, got {jax.local_device_count()}"
            )
        known = {int(trial.id, 16): trial for trial in self.trials}
        for width in self.store.checkpointed_widths(self.id):
            program = self.program(width)
            saved = self.store.load(self.id, width, like=empty(program, first))
            if saved is None:
                continue
            ids = [id for id in saved.tree.record.ids.tolist() if id >= 0]
            unfinished = {int(trial.id, 16) for trial in self._unfinished()}
            if set(ids) <= set(known) and unfinished & set(ids):
                return Batch(program, [known[id] for id in ids], saved.tree, saved.step)
            break
        self.store.delete(self.id)
        return None

    def _train(self, batch: Batch, stop: Stop, report: Report) -> None:
        plan, store = self.plan, self.store
        ids = [row["id"] for row in batch.rows()]
        store.rewind({id: batch.step for id in ids if id not in store.rows})
        saved = time.monotonic()
        while batch.step < plan.steps and batch.alive.any():
            if stop:
                store.save(self.id, batch.program.width, batch.step, batch.saved)
                exit_if_signalled(stop)
            distributed.beat()
            store.log(batch.advance(plan.segment))
            distributed.beat()
            narrower = self._prune(batch)
            report(batch, self.static)
            if narrower or time.monotonic() - saved >= plan.save_seconds:
                store.save(self.id, batch.program.width, batch.step, batch.saved)
                saved = time.monotonic()
        batch.finish()
        store.record(batch.rows())
        store.delete(self.id)
        exit_if_signalled(stop)

    def _prune(self, batch: Batch) -> bool:
        """Prune if it is due; return whether the batch has moved to another program."""
        plan, halving, before = self.plan, self.plan.halving, batch.program
        alive = int(batch.alive.sum())
        if halving and alive and batch.step < plan.steps and batch.step % halving.every == 0:
            order = plan.sign * batch.record.metrics[plan.metric]
            batch.halve(math.ceil(halving.keep * alive), order, self.program)
        return batch.program is not before


def buckets(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Group adjacent trials with equal static fields."""
    for _, bucket in itertools.groupby(trials, lambda trial: trial.bucket):
        yield list(bucket)


def exit_if_signalled(stop: Stop) -> None:
    """If SIGINT or SIGTERM has arrived, exit as the signal would."""
    if stop:
        raise KeyboardInterrupt if stop.exit_code == 130 else SystemExit(stop.exit_code)
