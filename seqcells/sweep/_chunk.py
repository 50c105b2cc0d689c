"""Some members of a bucket, trained together: who is alive, and what each has reached."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells.sweep._program import Program, power_of_two
from seqcells.sweep._space import Trial
from seqcells.sweep._store import Row

STATUSES = ("unfinished", "done", "pruned", "diverged")
UNFINISHED, DONE, PRUNED, DIVERGED = range(4)


class Record(NamedTuple):
    """What members have reached, on the host; W is the width that the chunk began with."""

    ids: np.ndarray  # int64[W], -1 where the chunk has no member
    status: np.ndarray  # int8[W], of STATUSES
    steps: np.ndarray  # int64[W], taken with a finite metric
    seconds: np.ndarray  # float64[W], of the machine, shared by those alive
    metrics: dict[str, np.ndarray]  # float64[W], means over the last segment


class Saved(NamedTuple):
    """A chunk as its checkpoint has it."""

    state: Any
    record: Record
    slots: np.ndarray  # int64[w], rows of the record in the order of the program; -1 is padding


class Chunk:
    """Members that one program advances, narrower after every rung.

    Args:
        program: that they are in.
        record: of all of them.
        slots: who is where in the program.
        state: the program's.
        step: how many each has taken.
    """

    def __init__(self, program: Program, saved: Saved, step: int) -> None:
        self.program, self.step = program, step
        self.state, self.record, self.slots = saved

    @classmethod
    def begin(cls, program: Program, trials: Sequence[Trial]) -> Chunk:
        """Begin `trials`; the program is filled up with copies of the last, which do not count."""
        saved = blank(program, program.width)
        ids = [int(trial.id, 16) for trial in trials]
        saved.record.ids[: len(ids)] = ids
        saved.slots[: len(ids)] = np.arange(len(ids))
        padded = [*trials, *[trials[-1]] * (program.width - len(trials))]
        return cls(program, saved._replace(state=program.begin(columns(padded), words(padded))), 0)

    @property
    def alive(self) -> np.ndarray:
        """bool[w]: who is still training."""
        return (self.slots >= 0) & (self.record.status[self.slots] == UNFINISHED)

    @property
    def saved(self) -> Saved:
        """What a checkpoint keeps."""
        return Saved(self.state, self.record, self.slots)

    def advance(self, segment: int) -> list[Row]:
        """Train a segment; return a line of metrics for everyone who was alive."""
        was, start = self.alive, time.perf_counter()
        self.state, alive, means = self.program.advance(self.state, self.program.place(was))
        alive, rows = np.asarray(alive)[was], self.slots[was]
        means = {name: np.asarray(values, float)[was] for name, values in means.items()}
        self.step += segment
        record = self.record
        for name, values in means.items():
            record.metrics[name][rows] = np.where(np.isfinite(values), values, math.nan)
        record.steps[rows[alive]] = self.step
        record.status[rows[~alive]] = DIVERGED
        record.seconds[rows] += (time.perf_counter() - start) / len(rows)
        return [
            {"id": f"{record.ids[row]:012x}", "step": self.step, "metrics": self._metrics(row)}
            for row in rows
        ]

    def halve(self, count: int, order: np.ndarray, programs: Callable[[int], Program]) -> None:
        """Keep `count` of those alive, the first by `order` (float[W], the least first).

        The others are pruned; where few enough are left, they move to a narrower program.
        """
        rows = self.slots[self.alive]
        pruned = rows[np.argsort(order[rows], kind="stable")[count:]]
        self.record.status[pruned] = PRUNED
        width = power_of_two(count)
        if width >= self.program.width:
            return
        places = np.flatnonzero(self.alive)
        take = np.append(places, np.repeat(places[-1:], width - len(places)))
        narrow = programs(width)
        self.state = narrow.place(jax.tree.map(lambda a: _rows(a, take), self.state))
        self.slots = np.append(self.slots[places], np.full(width - len(places), -1))
        self.program = narrow

    def finish(self) -> None:
        """Call those who are alive done."""
        self.record.status[self.slots[self.alive]] = DONE

    def rows(self) -> list[Row]:
        """A row for everyone, as the store keeps them."""
        record = self.record
        return [
            {
                "id": f"{record.ids[row]:012x}",
                "status": STATUSES[record.status[row]],
                "steps": int(record.steps[row]),
                "metrics": self._metrics(row),
                "seconds": float(record.seconds[row]),
            }
            for row in np.flatnonzero(record.ids >= 0)
        ]

    def _metrics(self, row: Any) -> dict[str, float]:
        return {name: float(values[row]) for name, values in self.record.metrics.items()}


def blank(program: Program, width: int) -> Saved:
    """Nobody yet: also what a checkpoint of `program` looks like, if it began at `width`."""
    record = Record(
        ids=np.full(width, -1),
        status=np.zeros(width, np.int8),
        steps=np.zeros(width, np.int64),
        seconds=np.zeros(width),
        metrics={name: np.full(width, math.nan) for name in program.metrics},
    )
    return Saved(program.like, record, np.full(program.width, -1))


def columns(trials: Sequence[Trial]) -> dict[str, np.ndarray]:
    """Hyperparameters as arrays [W] by name, in JAX's dtypes."""
    named = {
        name: np.asarray([trial.hparams[name] for trial in trials]) for name in trials[0].hparams
    }
    return {n: a.astype(jax.dtypes.canonicalize_dtype(a.dtype)) for n, a in named.items()}


def words(trials: Sequence[Trial]) -> np.ndarray:
    """uint32[W, 2]: what a trial's random key is folded with; its id."""
    return np.asarray(
        [[int(trial.id[:6], 16), int(trial.id[6:], 16)] for trial in trials], np.uint32
    )


def _rows(a: jax.Array, take: np.ndarray) -> Any:
    """Take rows on the host: sliced in place, devices would wait for one another."""
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.asarray(jax.random.key_data(a))[take])
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    return np.asarray(a)[take]
