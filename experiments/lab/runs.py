"""Runs, which a study lists, and groups of runs, which one compiled program trains."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

import seqcells as sc
from experiments.lab import cache, models, training
from experiments.lab.models import Member, Net, Reader, ReaderParams, Task, optimizer
from experiments.lab.training import by_segment, evaluate, fit, over_members, pad, solved_at
from seqcells import probes, train
from seqcells._types import PyTree
from seqcells.sweep._identity import UnknownContentError, canonical

FAST_COMPILE = {"xla_backend_optimization_level": 0}  # a third of the time; for single runs
CODE = (  # code that measures rows; code that only reads them may change
    Path(sc.__file__).parent,
    *(Path(str(module.__file__)) for module in (training, models)),
    Path(__file__),
)
BY_CONTENT = ("task", "runs", "measures", "optimizer")  # identified by content, not by number
PLAIN = ("name", "steps", "segment", "eval_size", "lengths", "strictness")
COLUMNS = [
    *("learning_rate", "seed", "steps", "solved_at", "solved"),
    *("loss", "accuracy", "exact", "seconds_per_step"),
]


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        labels: columns that identify it, such as {"arm": "GRU chrono", "length": 100}.
        start: the cell or layer with its initialisers.
        seed: the seed of its parameters and its data.
        hparams: fields of `train.HParams` that differ from the default.
        knobs: arguments of the probe's `sample`.
    """

    labels: dict[str, Any]
    start: Net
    seed: int
    hparams: dict[str, float]
    knobs: dict[str, int] = dataclasses.field(default_factory=dict)


def list_runs(
    labels: dict[str, Any],
    start: Net,
    rates: Sequence[float],
    seeds: int,
    knobs: dict[str, int] | None = None,
    **hparams: float,
) -> tuple[Run, ...]:
    """Return a run for every learning rate and seed; the arguments are those of `Run`."""
    return tuple(
        Run(labels, start, seed, {"learning_rate": rate, **hparams}, knobs or {})
        for rate in rates
        for seed in range(seeds)
    )


class Trained(NamedTuple):
    """A group after training. The first axis of arrays is runs [R, ...], padded by the last run."""

    task: Task
    runs: Sequence[Run]
    members: Member
    keys: jax.Array  # keys of fresh samples, a typed key per run
    before: ReaderParams  # at initialisation
    after: ReaderParams


class Measure(Protocol):
    """A measurement of a group besides its scores, for a further table.

    A frozen dataclass, because its `repr` is part of the name of the file with the rows.
    """

    table: ClassVar[str]  # name of the table
    columns: ClassVar[Sequence[str]]

    def rows(self, trained: Trained) -> list[cache.Row]:
        """Measure the rows."""
        ...


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """Runs that one program trains: a group of a study. Each run gives a row per length.

    Attributes:
        name: the name shown to users.
        task: the task; all runs share its cell, whatever their initialisation.
        runs: the runs.
        steps: maximal training steps; training stops early once all runs have learned, see `fit`.
        optimizer: `Member` -> an Optax transformation.
        segment: steps between two checks of the loss.
        eval_size: fresh sequences per score.
        lengths: further values of the probe's field `length`, at which the trained nets are scored
            too; the label `length` of these rows is that length.
        strictness: how many times less error than counts as solved a run must have to have learned.
        measures: further tables, the same for all groups of a study.
    """

    name: str
    task: Task
    runs: tuple[Run, ...]
    steps: int
    optimizer: train.Optimizer = optimizer
    segment: int = 50
    eval_size: int = 10_000
    lengths: tuple[int, ...] = ()
    strictness: float = 2.0
    measures: tuple[Measure, ...] = ()

    @property
    def tasks(self) -> list[Task]:
        """The task, and the same task at the further lengths."""
        probe: Any = self.task.probe  # a dataclass, as all are
        others = [dataclasses.replace(probe, length=length) for length in self.lengths]
        return [self.task, *(dataclasses.replace(self.task, probe=probe) for probe in others)]

    def labels(self, run: Run) -> list[dict[str, Any]]:
        """Return the labels of a run's rows, one for each of the tasks."""
        return [run.labels, *({**run.labels, "length": length} for length in self.lengths)]

    def part(self, out: Path) -> cache.Part:
        """Return the file with the rows."""
        settings = {
            **{name: getattr(self, name) for name in PLAIN},
            **{name: _content(name, getattr(self, name)) for name in BY_CONTENT},
        }
        columns = {"results": [*self.runs[0].labels, *COLUMNS]}
        columns |= {measure.table: [*measure.columns] for measure in self.measures}
        code = (*CODE, *_own_files([getattr(self, name) for name in BY_CONTENT]))
        name = self.name.replace(" ", "-").replace("/", "-")
        return cache.Part(out / "parts", name, settings, columns, code)

    def check(self) -> None:
        """Raise if a cell or a probe cannot be made."""
        probe = self.tasks[0].probe
        for start in dict.fromkeys(run.start for run in self.runs):
            init = dataclasses.replace(self.task.reader, cell=start).init
            jax.eval_shape(lambda key, init=init: init(key, probe.input_size), jax.random.key(0))

    def measure(self, progress: Callable[[int], None]) -> cache.Rows:
        """Train, score and measure; call `progress` with the number of steps done."""
        starts = list(dict.fromkeys(run.start for run in self.runs))
        runs = sorted(self.runs, key=lambda run: starts.index(run.start))
        params, members, seeds = pad((self._params(runs), *_members_of(runs)))

        def begin(params: ReaderParams, member: Member, seed: jax.Array) -> PyTree:
            _, k_train, k_eval = jax.random.split(jax.random.key(seed), 3)
            return train.init(params, member, k_train, self.optimizer), k_eval

        begin = jax.jit(over_members(begin), compiler_options=FAST_COMPILE)
        state, keys = begin(params, members, seeds)
        before = state.params
        state, curve, seconds = fit(
            *(self.task, state, members, self.steps, self.segment),
            *(progress, self.optimizer, self.strictness),
        )
        rows = []
        for i, task in enumerate(self.tasks):
            score = evaluate(task, self.eval_size)(state.params, keys, members)
            labels = [self.labels(run)[i] for run in runs]
            rows += self._rows(runs, labels, curve, score, seconds / len(runs))
        trained = Trained(self.task, runs, members, keys, before, state.params)
        return {"results": rows} | {
            measure.table: measure.rows(trained) for measure in self.measures
        }

    def _params(self, runs: Sequence[Run]) -> ReaderParams:
        """Initialise every run from its own cell, on the host; equal cells are adjacent."""
        params = []
        for start, some in itertools.groupby(runs, key=lambda run: run.start):
            reader = dataclasses.replace(self.task.reader, cell=start)

            def init(seed: jax.Array, reader: Reader = reader) -> ReaderParams:
                k_init, _, _ = jax.random.split(jax.random.key(seed), 3)
                return reader.init(k_init, self.task.probe.input_size)

            init = jax.jit(jax.vmap(init), compiler_options=FAST_COMPILE)
            params.append(jax.tree.map(np.asarray, init(jnp.asarray([run.seed for run in some]))))
        return jax.tree.map(lambda *a: jnp.asarray(np.concatenate(a)), *params)

    def _rows(
        self,
        runs: Sequence[Run],
        labels: Sequence[dict[str, Any]],
        curve: train.Metrics,
        score: probes.Score,
        seconds: float,
    ) -> list[cache.Row]:
        success = self.task.probe.success
        values = by_segment(curve["measure"], self.segment)
        at = np.asarray(curve["loss"]).shape[-1]
        score = jax.tree.map(np.asarray, score)
        solved = np.asarray(self.task.probe.solved(score))
        return [
            {
                **labels[i],
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


def _content(name: str, value: object) -> object:
    """Return the identity of a value, equal in every process."""
    try:
        return canonical(value)
    except UnknownContentError as error:
        raise TypeError(
            f"{name}: expected values with a name or a readable content, got {error}, which "
            "another process cannot recognise; define it in a module, under its own name"
        ) from None


def _own_files(values: Iterable[object]) -> list[Path]:
    """Return the source files of classes and functions in `values`, except `CODE` and packages."""
    kinds = {kind for value in values for kind in _kinds(value)}
    files = {Path(inspect.getfile(kind)) for kind in kinds}
    known = (*CODE, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")))
    return sorted(file for file in files if not {file, *file.parents} & {*known})


def _kinds(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        yield type(value)
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif inspect.isfunction(value):
        yield value
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _kinds(part)


Columns = dict[str, jax.Array]


def _members_of(runs: Sequence[Run]) -> tuple[Member, jax.Array]:
    """Return the members [M], and their seeds int[M]."""

    def column(dicts: Sequence[Mapping[str, ArrayLike]], dtype: DTypeLike) -> Columns:
        return {name: jnp.asarray([d[name] for d in dicts], dtype) for name in dicts[0]}

    plain = train.HParams()._asdict()
    hparams = column([plain | run.hparams for run in runs], jnp.float32)
    knobs = column([run.knobs for run in runs], jnp.int32)
    return Member(train.HParams(**hparams), knobs), jnp.asarray([run.seed for run in runs])
