"""A batch: trials of one bucket that are trained by one program, with status and results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._types import PyTree
from seqcells.sweep._lines import Row
from seqcells.sweep._program import Program, next_power_of_two
from seqcells.sweep._space import Trial

STATUSES = ("unfinished", "done", "pruned", "diverged")
UNFINISHED, DONE, PRUNED, DIVERGED = range(4)


class Record(NamedTuple):
    """Results of a batch, on the host; W is the initial width of the batch."""

    ids: np.ndarray  # int64[W], -1 in padding
    status: np.ndarray  # int8[W], an index into STATUSES
    steps: np.ndarray  # int64[W], steps with a finite metric
    seconds: np.ndarray  # float64[W], wall time, divided among the trials that were alive
    metrics: dict[str, np.ndarray]  # float64[W], means over the last segment


class Saved(NamedTuple):
    """The contents of a batch's checkpoint."""

    state: PyTree
    record: Record
    slots: np.ndarray  # int64[w], the row in the record of each slot of the program; -1 in padding


class Batch:
    """Trials that one program trains; under halving, survivors move to a narrower program.

    Args:
        program: the compiled program.
        trials: the trial of every row of the record.
        saved: the state of the program, the record and the slots.
        step: the number of steps that every trial has taken.
    """

    def __init__(
        self, program: Program, trials: Sequence[Trial], saved: Saved, step: int = 0
    ) -> None:
        self.program, self.trials, self.step = program, trials, step
        self.state, self.record, self.slots = saved
        self.changed: list[dict[str, float]] = []  # hyperparameters after the last segment
        self.hparams = self._hparams()

    @classmethod
    def begin(cls, program: Program, trials: Sequence[Trial]) -> Batch:
        """Initialise `trials`; copies of the last one fill up the program and are ignored."""
        saved = empty(program, program.width)
        saved.record.ids[: len(trials)] = [int(trial.id, 16) for trial in trials]
        saved.slots[: len(trials)] = np.arange(len(trials))
        batch = cls(program, trials, saved)
        batch.state = program.begin(batch.hparams, words(batch._trial_of_each_slot()))
        return batch

    def _trial_of_each_slot(self) -> list[Trial]:
        """Return the trials in the order of the program; padding repeats the last one."""
        return [self.trials[row] for row in np.where(self.slots < 0, self.slots.max(), self.slots)]

    def _hparams(self) -> PyTree:
        return self.program.place(columns(self._trial_of_each_slot()))

    @property
    def alive(self) -> np.ndarray:
        """bool[w]: the slots that are still training."""
        return (self.slots >= 0) & (self.record.status[self.slots] == UNFINISHED)

    @property
    def saved(self) -> Saved:
        """The contents of the checkpoint."""
        return Saved(self.state, self.record, self.slots)

    def best(self, metric: str, sign: int) -> float:
        """Return the best metric of the trials alive; NaN if none is."""
        values = sign * self.record.metrics[metric][self.slots[self.alive]]
        return sign * float(min(values, default=math.nan))

    def advance(self, segment: int) -> list[Row]:
        """Train for a segment; return the metrics of every trial that was alive."""
        before, start = self.alive, time.perf_counter()
        alive, means = self._call_program(segment)
        alive, rows = np.asarray(alive)[before], self.slots[before]
        means = {name: np.asarray(values, float)[before] for name, values in means.items()}
        self.step += segment
        record = self.record
        for name, values in means.items():
            record.metrics[name][rows] = np.where(np.isfinite(values), values, math.nan)
        record.steps[rows[alive]] = self.step
        record.status[rows[~alive]] = DIVERGED
        record.seconds[rows] += (time.perf_counter() - start) / len(rows)
        return [
            {"id": self._id(row), "step": self.step, "metrics": self._metrics(row)} for row in rows
        ]

    def _call_program(self, segment: int) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Advance the state; return bool[w], whether a trial is still alive, and its metrics."""
        self.state, alive, means = self.program.advance(
            self.state, self.hparams, self.program.place(self.alive)
        )
        return alive, means

    def halve(self, count: int, order: np.ndarray, programs: Callable[[int], Program]) -> None:
        """Keep the `count` best trials alive, by ascending `order` (float[W]).

        The others are pruned. The survivors move to a narrower program if they fit into one.
        """
        rows = self.slots[self.alive]
        pruned = rows[np.argsort(order[rows], kind="stable")[count:]]
        self.record.status[pruned] = PRUNED
        width = next_power_of_two(count)
        if width >= self.program.width:
            return
        alive = np.flatnonzero(self.alive)
        indices = np.append(alive, np.repeat(alive[-1:], width - len(alive)))
        self.program = programs(width)
        self.state = self.program.place(jax.tree.map(lambda a: _take(a, indices), self.state))
        self.slots = np.append(self.slots[alive], np.full(width - len(alive), -1))
        self.hparams = self._hparams()

    def finish(self) -> None:
        """Mark the trials that are still training as done."""
        self.record.status[self.slots[self.alive]] = DONE

    def rows(self) -> list[Row]:
        """Return a row for every trial, in the form of the store."""
        record = self.record
        return [
            {
                "id": self._id(row),
                "status": STATUSES[record.status[row]],
                "steps": int(record.steps[row]),
                "metrics": self._metrics(row),
                "seconds": float(record.seconds[row]),
            }
            for row in np.flatnonzero(record.ids >= 0).tolist()
        ]

    def _id(self, row: int) -> str:
        return f"{self.record.ids[row]:012x}"

    def _metrics(self, row: int) -> dict[str, float]:
        return {name: float(values[row]) for name, values in self.record.metrics.items()}


def empty(program: Program, width: int) -> Saved:
    """Return an empty batch, shaped like the checkpoint of a batch that began at `width`."""
    record = Record(
        ids=np.full(width, -1),
        status=np.zeros(width, np.int8),
        steps=np.zeros(width, np.int64),
        seconds=np.zeros(width),
        metrics={name: np.full(width, math.nan) for name in program.metrics},
    )
    return Saved(program.like, record, np.full(program.width, -1))


def columns(trials: Sequence[Trial]) -> dict[str, np.ndarray]:
    """Return hyperparameters as arrays [W] by name, in JAX's dtypes."""
    named = {
        name: np.asarray([trial.hparams[name] for trial in trials]) for name in trials[0].hparams
    }
    return {n: a.astype(jax.dtypes.canonicalize_dtype(a.dtype)) for n, a in named.items()}


def words(trials: Sequence[Trial]) -> np.ndarray:
    """Return uint32[W, 2]: the two halves of every trial's id, which are folded into its key."""
    return np.asarray(
        [[int(trial.id[:6], 16), int(trial.id[6:], 16)] for trial in trials], np.uint32
    )


def _take(a: jax.Array, indices: np.ndarray) -> jax.Array | np.ndarray:
    """Take rows on the host: indexing on the devices would make them wait for each other."""
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(a))[indices])
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    return np.asarray(a)[indices]
