"""Which memory reaches how far, and why: delayed recall by lag, and the gradient behind it.

Four cells learn to report a symbol that they saw 10, 25, 50 or 100 steps before; the lag is data,
so one compiled program trains all lags and seeds of a cell. Beside it stand the gradient of the
loss by the memory at every lag, before and after training, and the adding problem.
"""

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
from experiments.horizon_report import report
from seqcells import initializers, probes, train


@dataclasses.dataclass(frozen=True)
class Budget:
    """How a cell is trained, with AdamW and gradients clipped to a global norm of 1."""

    recall: float  # learning rate on delayed recall
    adding: float  # learning rate on the adding problem
    steps: int  # at most; a group whose members have all learned stops before


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the study; each was swept for its cell, see docs/horizon.md."""

    seeds: int = 5  # members for every cell and lag
    lags: tuple[int, ...] = (10, 25, 50, 100)  # steps; the longest is also the length of the tasks
    hidden_size: int = 32  # units
    batch_size: int = 32  # fresh sequences a step
    segment: int = 50  # steps between two looks at the loss
    eval_size: int = 10_000  # samples behind every loss and accuracy
    tanh: Budget = Budget(recall=6e-3, adding=3e-3, steps=1000)
    irnn: Budget = Budget(recall=5e-4, adding=3e-3, steps=1500)
    gru: Budget = Budget(recall=6e-3, adding=6e-3, steps=500)

    def __post_init__(self) -> None:
        for name in ("seeds", "hidden_size", "batch_size", "segment", "eval_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.lags or min(self.lags) < 1:
            raise ValueError(f"lags: expected one lag or more, each at least 1, got {self.lags}")


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
TASKS = ("recall", "adding")
COLUMNS = {
    "results": [
        *("task", "cell", "init", "lag", "seed"),
        *("steps", "loss", "accuracy", "solved", "seconds"),
    ],
    "gradients": ["cell", "init", "when", "lag", "norm"],
}


@dataclasses.dataclass(frozen=True)
class Group:
    """The members that one program trains: all lags and seeds of a contender on a task."""

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

    @property
    def learning_rate(self) -> float:
        """Learning rate of all members."""
        return getattr(getattr(self.settings, self.contender.budget), self.task)

    @property
    def lags(self) -> tuple[int, ...]:
        """Lags of the task; the adding problem has its length alone."""
        return self.settings.lags if self.task == "recall" else (max(self.settings.lags),)

    @functools.cached_property
    def program(self) -> Task:
        """What is trained; equal for contenders that differ in their initialisation alone."""
        longest = max(self.settings.lags)
        probe = probes.DelayedRecall(longest) if self.task == "recall" else probes.Adding(longest)
        cell = self.contender.plain(self.settings.hidden_size)
        return Task(Reader(cell, probe.output_size), probe, self.settings.batch_size)

    def members(self) -> tuple[Member, jax.Array]:
        """Return the members, lag by lag, and their seeds int[M]."""
        lag, seed = (a.ravel() for a in np.meshgrid(self.lags, range(self.settings.seeds)))
        order = np.lexsort((seed, lag))
        hparams = train.HParams(learning_rate=self.learning_rate)
        hparams = jax.tree.map(lambda a: jnp.full(len(lag), a, jnp.float32), hparams)
        knobs = {"lag": jnp.asarray(lag[order])} if self.task == "recall" else {}
        return pad((Member(hparams, knobs), jnp.asarray(seed[order])))

    def part(self, out: Path) -> _study.Part:
        """Where the rows of this group are kept."""
        settings = dataclasses.asdict(self.settings)
        for name in ("tanh", "irnn", "gru"):
            settings.pop(name)
        who = {"task": self.task, "cell": self.contender.name}
        who |= {"learning_rate": self.learning_rate, "steps": self.steps}
        name = f"{self.task}-{self.contender.name.replace(' ', '-')}"
        return _study.Part(out / "parts", name, {**settings, **who})

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

        state, keys = jax.jit(over_members(start))(members, seeds)
        before = state.params
        state, seconds = self._fit(state, members, progress)
        score = _evaluate(task, self.settings.eval_size)(state.params, keys, members)
        solved = jax.jit(task.probe.solved)(score)
        results = self._rows(int(np.asarray(state.step)[0]), seconds, score, solved)
        if self.task != "recall":
            return {"results": results, "gradients": []}
        after = {"initialisation": before, "after training": state.params}
        norms = {w: np.asarray(_gradient(task)(p, keys, members)) for w, p in after.items()}
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

    def _rows(self, steps: int, seconds: float, score: Any, solved: Any) -> list[dict[str, Any]]:
        """One row a member, in the order of `members`."""
        pairs = [(lag, seed) for lag in sorted(self.lags) for seed in range(self.settings.seeds)]
        share = seconds * steps / len(pairs)
        loss, accuracy, solved = (np.asarray(a) for a in (score.loss, score.accuracy, solved))
        return [
            {
                "task": self.task,
                "cell": self.contender.cell,
                "init": self.contender.init,
                "lag": lag,
                "seed": seed,
                "steps": steps,
                "loss": float(loss[i]),
                "accuracy": float(accuracy[i]),
                "solved": bool(solved[i]),
                "seconds": share,
            }
            for i, (lag, seed) in enumerate(pairs)
        ]

    def _gradient_rows(self, norms: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        """One row a lag: the median over the seeds of the longest task."""
        seeds = self.settings.seeds
        longest = slice(seeds * (len(self.lags) - 1), seeds * len(self.lags))
        for when, norm in norms.items():
            for lag, value in enumerate(np.median(norm[longest], axis=0)):
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
    return [Group(settings, task, contender) for task in TASKS for contender in CONTENDERS]


def run(settings: Settings, out: Path, console: Console) -> None:
    """Measure what is not finished yet, then report."""
    _study.measure(groups(settings), COLUMNS, out, console)
    report(out, console)
