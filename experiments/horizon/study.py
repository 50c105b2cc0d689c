"""The study: what is trained, and what is measured of it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import seqcells as sc
from experiments import _study
from experiments._members import over_members, pad
from experiments._model import Member, Reader, Task, optimizer
from experiments.horizon.report import report
from seqcells import initializers, probes, train


@dataclasses.dataclass(frozen=True)
class Budget:
    """How a cell is trained, with AdamW and gradients clipped to a global norm of 1."""

    recall: float  # learning rate on delayed recall
    adding: float  # learning rate on the adding problem
    steps: int  # at most; a group whose members have all learned stops before


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the study; docs/horizon.md says how the learning rates were found."""

    cells: tuple[str, ...] = ("tanh orthogonal", "IRNN identity", "GRU default", "GRU chrono")
    seeds: int = 5  # members for every cell and lag
    lags: tuple[int, ...] = (10, 25, 50, 100)  # steps; the longest is also the length of the tasks
    factors: tuple[float, ...] = (1 / 3, 3, 9)  # of the learning rate, tried at the longest lag
    factor_seeds: int = 3  # members for each factor
    hidden_size: int = 32  # units
    batch_size: int = 32  # fresh sequences a step
    segment: int = 50  # steps between two looks at the loss
    eval_size: int = 10_000  # samples behind every loss and accuracy
    tanh: Budget = Budget(recall=3e-3, adding=3e-3, steps=1000)
    irnn: Budget = Budget(recall=5e-4, adding=3e-3, steps=1000)
    gru: Budget = Budget(recall=6e-3, adding=6e-3, steps=400)

    def __post_init__(self) -> None:
        for name in ("seeds", "factor_seeds", "hidden_size", "batch_size", "segment", "eval_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        known = [contender.name for contender in CONTENDERS]
        if not self.cells or not set(self.cells) <= set(known):
            raise ValueError(f"cells: expected some of {', '.join(known)}, got {self.cells}")
        if not self.lags or min(self.lags) < 1:
            raise ValueError(f"lags: expected one lag or more, each at least 1, got {self.lags}")
        if not self.factors or not min(self.factors) > 0:
            raise ValueError(f"factors: expected one or more, each above 0, got {self.factors}")


class Contender(NamedTuple):
    """A cell to measure."""

    cell: str
    init: str
    budget: str  # field of Settings
    make: Callable[[int, int], sc.RNN | sc.GRU]  # (hidden_size, longest lag) -> how it starts
    plain: Callable[[int], sc.RNN | sc.GRU]  # hidden_size -> how it runs: one program for all inits

    @property
    def name(self) -> str:
        """Cell and initialisation."""
        return f"{self.cell} {self.init}"


def _irnn(hidden_size: int, longest: int = 0) -> sc.RNN:
    return sc.RNN(hidden_size, "relu", w_hh_init=initializers.Identity())


def _chrono(hidden_size: int, longest: int) -> sc.GRU:
    slow = initializers.Chrono(max(2, longest))
    return sc.GRU(hidden_size, b_ih_init=(initializers.zeros, slow, initializers.zeros))


CONTENDERS = (
    Contender("tanh", "orthogonal", "tanh", lambda h, _: sc.RNN(h), sc.RNN),
    Contender("IRNN", "identity", "irnn", _irnn, _irnn),
    Contender("GRU", "default", "gru", lambda h, _: sc.GRU(h), sc.GRU),
    Contender("GRU", "chrono", "gru", _chrono, sc.GRU),
)
QUICK = {"xla_backend_optimization_level": 0}  # what runs once compiles in a third of the time
TASKS = ("recall", "adding")
COLUMNS = {
    "results": [
        *("task", "cell", "init", "lag", "seed"),
        *("steps", "loss", "accuracy", "solved", "seconds", "learning_rate"),
    ],
    "gradients": ["cell", "init", "when", "lag", "norm"],
}


class Place(NamedTuple):
    """Where a member stands among the others of its group."""

    task: str  # "recall"; "rates" for recall at another learning rate; "adding"
    lag: int
    learning_rate: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Group:
    """The members that one program trains: a contender on a task, at every place."""

    settings: Settings
    task: str
    contender: Contender

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.task:6} {self.contender.name}"

    @property
    def steps(self) -> int:
        """Steps at most."""
        return getattr(self.settings, self.contender.budget).steps

    @functools.cached_property
    def places(self) -> list[Place]:
        """Where the members stand; those of the longest lag come last."""
        lags = sorted(set(self.settings.lags))
        rate = getattr(getattr(self.settings, self.contender.budget), self.task)
        seeds = range(self.settings.seeds)
        if self.task == "adding":
            return [Place("adding", lags[-1], rate, seed) for seed in seeds]
        others = [factor * rate for factor in sorted(set(self.settings.factors))]
        few = range(self.settings.factor_seeds)
        return [
            *(Place("rates", lags[-1], other, seed) for other in others for seed in few),
            *(Place("recall", lag, rate, seed) for lag in lags for seed in seeds),
        ]

    @functools.cached_property
    def program(self) -> Task:
        """What is trained; equal for contenders that differ in their initialisation alone."""
        longest = max(self.settings.lags)
        probe = probes.Adding(longest) if self.task == "adding" else probes.DelayedRecall(longest)
        cell = self.contender.plain(self.settings.hidden_size)
        return Task(Reader(cell, probe.output_size), probe, self.settings.batch_size)

    def members(self) -> tuple[Member, jax.Array]:
        """Return the members, in the order of `places`, and their seeds int[M]."""
        _, *columns = zip(*self.places, strict=True)
        lags, rates, seeds = map(jnp.asarray, columns)
        hparams = jax.tree.map(lambda a: jnp.full(len(lags), a, jnp.float32), train.HParams())
        knobs = {} if self.task == "adding" else {"lag": lags}
        return pad((Member(hparams._replace(learning_rate=rates), knobs), seeds))

    def part(self, out: Path) -> _study.Part:
        """Where the rows of this group are kept."""
        names = ("hidden_size", "batch_size", "segment", "eval_size")
        settings = {name: getattr(self.settings, name) for name in names}
        settings |= {"task": self.task, "cell": self.contender.name, "steps": self.steps}
        settings |= {"length": max(self.settings.lags), "places": self.places}
        name = f"{self.task}-{self.contender.name.replace(' ', '-')}"
        return _study.Part(out / "parts", name, settings)

    def measure(self, progress: Callable[[int], None]) -> dict[str, list[dict[str, Any]]]:
        """Train and measure. `progress` is called with the steps done."""
        task, (members, seeds) = self.program, self.members()
        reader = Reader(
            self.contender.make(self.settings.hidden_size, max(self.settings.lags)),
            task.reader.output_size,
        )

        def start(member: Member, seed: jax.Array) -> tuple[train.TrainState, jax.Array]:
            k_init, k_train, k_eval = jax.random.split(jax.random.key(seed), 3)
            params = reader.init(k_init, task.probe.input_size)
            return train.init(params, member, k_train, optimizer), k_eval

        state, keys = jax.jit(over_members(start), compiler_options=QUICK)(members, seeds)
        before = state.params
        state, seconds = self._fit(state, members, progress)
        score = _evaluate(task, self.settings.eval_size)(state.params, keys, members)
        results = self._rows(int(np.asarray(state.step)[0]), seconds, score)
        if self.task != "recall":
            return {"results": results, "gradients": []}
        when = {"initialisation": before, "after training": state.params}
        norms = {name: self._gradient(params, keys, members) for name, params in when.items()}
        return {"results": results, "gradients": list(self._gradient_rows(norms))}

    def _fit(
        self, state: train.TrainState, members: Member, progress: Callable[[int], None]
    ) -> tuple[train.TrainState, float]:
        """Train; return the state and the seconds a step takes, compilation left out."""
        marks = [(0, time.perf_counter())]

        def look(state: train.TrainState, metrics: train.Metrics) -> bool:
            loss = np.asarray(metrics["loss"]).mean(axis=-1)
            marks.append((int(np.asarray(state.step)[0]), time.perf_counter()))
            progress(marks[-1][0])
            return bool((loss < self.program.probe.threshold / 2).all())

        state, _ = train.fit(
            self.program,
            state,
            members,
            self.steps,
            segment=self.settings.segment,
            optimizer=optimizer,
            transform=over_members,
            on_segment=look,
        )
        (s0, t0), (s1, t1) = marks[1 if len(marks) > 2 else 0], marks[-1]
        return state, (t1 - t0) / (s1 - s0)

    def _rows(self, steps: int, seconds: float, score: probes.Score) -> list[dict[str, Any]]:
        """One row a member."""
        share = seconds * steps / len(self.places)
        solved = self.program.probe.solved(score)
        loss, accuracy, solved = (np.asarray(a) for a in (score.loss, score.accuracy, solved))
        return [
            {
                "task": place.task,
                "cell": self.contender.cell,
                "init": self.contender.init,
                "lag": place.lag,
                "seed": place.seed,
                "steps": steps,
                "loss": float(loss[i]),
                "accuracy": float(accuracy[i]),
                "solved": bool(solved[i]),
                "seconds": share,
                "learning_rate": place.learning_rate,
            }
            for i, place in enumerate(self.places)
        ]

    def _gradient(self, params: Any, keys: jax.Array, members: Member) -> np.ndarray:
        """Gradient by lag of the members with the longest lag, float[seeds, T + 1]."""
        norms = np.asarray(_gradient(self.program)(params, keys, members))[: len(self.places)]
        return norms[-self.settings.seeds :]

    def _gradient_rows(self, norms: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        """One row a lag: the median over the seeds."""
        for when, norm in norms.items():
            for lag, value in enumerate(np.median(norm, axis=0)):
                who = {"cell": self.contender.cell, "init": self.contender.init}
                yield {**who, "when": when, "lag": lag, "norm": float(value)}


@functools.lru_cache(maxsize=8)
def _evaluate(task: Task, size: int) -> Any:
    return jax.jit(over_members(lambda p, key, member: task.evaluate(p, key, member, size)))


@functools.lru_cache(maxsize=8)
def _gradient(task: Task) -> Any:
    return jax.jit(over_members(lambda p, key, member: task.gradient(p, key, member, 256)))


def groups(settings: Settings) -> list[Group]:
    """All groups of the study, those that share a program side by side."""
    chosen = [contender for contender in CONTENDERS if contender.name in settings.cells]
    return [Group(settings, task, contender) for task in TASKS for contender in chosen]


def run(settings: Settings, out: Path, console: Console) -> None:
    """Measure what is not finished yet, then report."""
    _study.measure(groups(settings), COLUMNS, out, console)
    report(out, console)
