"""Training runs by the dozen: what a study lists, what is trained as one program, and its rows."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from experiments import _members, _model, _study
from experiments._members import over_members, pad
from experiments._model import Member, Task, optimizer
from seqcells import probes, train

QUICK = {"xla_backend_optimization_level": 0}  # what runs once compiles in a third of the time
CODE = (  # what rows are made by; what only reads them may change and leaves them true
    Path(sc.__file__).parent,
    *(Path(str(module.__file__)) for module in (_members, _model)),
    Path(__file__),
)
COLUMNS = [
    *("learning_rate", "seed", "steps", "solved_at", "solved"),
    *("loss", "accuracy", "exact", "seconds_per_step"),
]


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: where it stands in its study, and what it is given.

    Attributes:
        labels: its own columns, such as {"arm": "GRU chrono", "length": 100}.
        start: the cell with the initialisers that it starts from.
        seed: of its parameters and its data.
        hparams: fields of `train.HParams` that are not the default.
        knobs: arguments of the probe's `sample`.
    """

    labels: dict[str, Any]
    start: Any
    seed: int
    hparams: dict[str, float]
    knobs: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Trials:
    """Runs that one program trains: a group of a study.

    Attributes:
        name: for people.
        task: what is trained; its cell is one for all runs, whatever they start from.
        runs: the runs.
        steps: of training, at most; where all have learned, it stops before.
        optimizer: member -> an Optax transformation.
        segment: steps between two looks at the loss.
        eval_size: fresh sequences behind every score.
    """

    name: str
    task: Task
    runs: tuple[Run, ...]
    steps: int
    optimizer: Callable[[Any], Any] = optimizer
    segment: int = 50
    eval_size: int = 10_000

    def part(self, out: Path) -> _study.Part:
        """Where the rows are kept."""
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("task", "runs", "optimizer")
        }
        settings |= {"task": repr(self.task), "runs": [repr(run) for run in self.runs]}
        settings["optimizer"] = f"{self.optimizer.__module__}.{self.optimizer.__qualname__}"
        columns = {"results": [*self.runs[0].labels, *COLUMNS]}
        name = self.name.replace(" ", "-").replace("/", "-")
        return _study.Part(out / "parts", name, settings, columns, CODE)

    def measure(self, progress: Callable[[int], None]) -> _study.Rows:
        """Train and score. `progress` is called with the steps done."""
        starts = list(dict.fromkeys(run.start for run in self.runs))
        runs = sorted(self.runs, key=lambda run: starts.index(run.start))
        params = self._params(
            [[run.seed for run in runs if run.start == s] for s in starts], starts
        )
        params, members, seeds = pad((params, *_members_of(runs)))

        def begin(params: Any, member: Member, seed: jax.Array) -> Any:
            _, k_train, k_eval = jax.random.split(jax.random.key(seed), 3)
            return train.init(params, member, k_train, self.optimizer), k_eval

        begin = jax.jit(over_members(begin), compiler_options=QUICK)
        state, keys = begin(params, members, seeds)
        state, curve, seconds = fit(
            self.task, state, members, self.steps, self.segment, progress, self.optimizer
        )
        score = evaluate(self.task, self.eval_size)(state.params, keys, members)
        return {"results": self._rows(runs, curve, score, seconds / len(runs))}

    def _params(self, seeds: Sequence[list[int]], starts: Sequence[Any]) -> Any:
        """Initialise every run from its own cell; on the host, in the order of the starts."""
        made = []
        for some, start in zip(seeds, starts, strict=True):
            reader = dataclasses.replace(self.task.reader, cell=start)

            def init(seed: jax.Array, reader: Any = reader) -> Any:
                k_init, _, _ = jax.random.split(jax.random.key(seed), 3)
                return reader.init(k_init, self.task.probe.input_size)

            init = jax.jit(jax.vmap(init), compiler_options=QUICK)
            made.append(jax.tree.map(np.asarray, init(jnp.asarray(some))))
        return jax.tree.map(lambda *a: jnp.asarray(np.concatenate(a)), *made)

    def _rows(
        self, runs: Sequence[Run], curve: train.Metrics, score: probes.Score, seconds: float
    ) -> list[dict[str, Any]]:
        success = self.task.probe.success
        values = by_segment(curve["measure"], self.segment)
        at = np.asarray(curve["loss"]).shape[-1]
        score = jax.tree.map(np.asarray, score)
        solved = np.asarray(self.task.probe.solved(score))
        return [
            {
                **run.labels,
                "learning_rate": run.hparams.get("learning_rate", math.nan),
                "seed": run.seed,
                "steps": at,
                "solved_at": solved_at(values[i], success, self.segment, at, bool(solved[i])),
                "solved": bool(solved[i]),
                **{name: float(getattr(score, name)[i]) for name in ("loss", "accuracy", "exact")},
                "seconds_per_step": seconds,
            }
            for i, run in enumerate(runs)
        ]


def _members_of(runs: Sequence[Run]) -> tuple[Member, jax.Array]:
    """The members [M], and their seeds int[M]."""

    def column(dicts: Sequence[dict[str, Any]], dtype: Any) -> dict[str, jax.Array]:
        return {name: jnp.asarray([d[name] for d in dicts], dtype) for name in dicts[0]}

    plain = train.HParams()._asdict()
    hparams = column([plain | run.hparams for run in runs], jnp.float32)
    knobs = column([run.knobs for run in runs], jnp.int32)
    return Member(train.HParams(**hparams), knobs), jnp.asarray([run.seed for run in runs])


def by_segment(values: Any, segment: int) -> np.ndarray:
    """Average [M, steps] over segments, the last of which may be shorter: [M, segments]."""
    values = np.asarray(values, float)
    starts = np.arange(0, values.shape[-1], segment)
    sizes = np.diff([*starts, values.shape[-1]])
    return np.add.reduceat(values, starts, axis=-1) / sizes


def passed(values: np.ndarray, success: probes.Success, strictness: float = 1.0) -> np.ndarray:
    """Say whether averages pass what counts as solved; with a strictness of 2, by twice as much."""
    if success.measure == "loss":
        return values < success.bound / strictness
    return 1 - values < (1 - success.bound) / strictness


def solved_at(
    values: np.ndarray, success: probes.Success, segment: int, steps: int, in_the_end: bool = False
) -> float:
    """Return the step by which the average of a segment first passes.

    Where none does: the last step for a run that is scored as solved in the end, NaN for others.
    """
    good = np.flatnonzero(passed(values, success))
    if len(good):
        return float(min((good[0] + 1) * segment, steps))
    return float(steps) if in_the_end else math.nan


def fit(
    task: Task,
    state: train.TrainState,
    members: Member,
    steps: int,
    segment: int,
    progress: Callable[[int], None],
    optimizer: Callable[[Any], Any] = optimizer,
) -> tuple[train.TrainState, train.Metrics, float]:
    """Train all members, until all have learned by twice as much as counts, or to the end.

    Returns:
        The state, the metrics [M, steps], and the seconds that a step of the whole group takes.
    """
    marks, success = [(0, time.perf_counter())], task.probe.success

    def look(state: train.TrainState, metrics: train.Metrics) -> bool:
        values = np.asarray(metrics["measure"]).mean(axis=-1)
        marks.append((int(np.asarray(state.step)[0]), time.perf_counter()))
        progress(marks[-1][0])
        return bool(passed(values, success, strictness=2).all())

    state, metrics = train.fit(
        task,
        state,
        members,
        steps,
        segment=segment,
        optimizer=optimizer,
        transform=over_members,
        on_segment=look,
    )
    return state, metrics, pace(marks, segment)


@functools.lru_cache(maxsize=8)
def evaluate(task: Task, size: int) -> Any:
    """Make the program that scores all members on `size` fresh sequences each."""
    return jax.jit(over_members(lambda p, key, member: task.evaluate(p, key, member, size)))


def pace(marks: Sequence[tuple[int, float]], segment: int) -> float:
    """Seconds a step takes, from (step, time) after each segment; NaN where nothing tells.

    The first segment compiles, and so does a last one that is shorter: neither counts.
    """
    spans = [(s1 - s0, t1 - t0) for (s0, t0), (s1, t1) in itertools.pairwise(marks[1:])]
    whole = [seconds for steps, seconds in spans if steps == segment]
    return sum(whole) / (segment * len(whole)) if whole else math.nan
