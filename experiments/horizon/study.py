"""The study: what is trained, and what is measured of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.horizon import settings as _settings
from experiments.horizon.numbers import COLUMNS
from experiments.horizon.settings import CONTENDERS, Budget, Contender, Settings
from experiments.lab import (
    FAST_COMPILE,
    Member,
    Reader,
    Task,
    arms,
    cache,
    evaluate,
    fit,
    optimizer,
    over_members,
    pad,
    runs,
)
from seqcells import probes, train

TASKS = ("recall", "adding")
CODE = (
    *runs.CODE,
    *(Path(str(module.__file__)) for module in (arms, _settings)),
    Path(__file__),
)


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
        return f"{self.task} {self.contender.name}"

    @property
    def budget(self) -> Budget:
        """How the contender is trained."""
        return getattr(self.settings, self.contender.budget)

    @property
    def steps(self) -> int:
        """Steps at most."""
        return self.budget.steps

    @functools.cached_property
    def places(self) -> list[Place]:
        """Where the members stand; those of the longest lag come last."""
        lags = sorted(set(self.settings.lags))
        rate = getattr(self.budget, self.task)
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
        made = probes.AddingURNN if self.task == "adding" else probes.DelayedRecall
        probe = made(max(self.settings.lags))
        cell = self.contender.plain(self.settings.hidden_size)
        return Task(Reader(cell, probe.output_size), probe, self.settings.batch_size)

    def members(self) -> tuple[Member, jax.Array]:
        """Return the members, in the order of `places`, and their seeds int[M]."""
        _, *columns = zip(*self.places, strict=True)
        lags, rates, seeds = map(jnp.asarray, columns)
        hparams = jax.tree.map(lambda a: jnp.full(len(lags), a, jnp.float32), train.HParams())
        knobs = {} if self.task == "adding" else {"lag": lags}
        return pad((Member(hparams._replace(learning_rate=rates), knobs), seeds))

    def part(self, out: Path) -> cache.Part:
        """Where the rows of this group are kept."""
        names = ("hidden_size", "batch_size", "segment", "eval_size")
        settings = {name: getattr(self.settings, name) for name in names}
        settings |= {"task": self.task, "cell": self.contender.name}
        settings |= {"steps": self.steps, "places": self.places}
        name = f"{self.task}-{self.contender.name.replace(' ', '-')}"
        return cache.Part(out / "parts", name, settings, COLUMNS, CODE)

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

        state, keys = jax.jit(over_members(start), compiler_options=FAST_COMPILE)(members, seeds)
        before = state.params
        segment = self.settings.segment
        state, _, seconds = fit(task, state, members, self.steps, segment, progress)
        score = evaluate(task, self.settings.eval_size)(state.params, keys, members)
        results = self._rows(int(np.asarray(state.step)[0]), seconds, score)
        if self.task != "recall":
            return {"results": results, "gradients": []}
        when = {"initialisation": before, "after training": state.params}
        norms = {name: self._gradient(params, keys, members) for name, params in when.items()}
        return {"results": results, "gradients": list(self._gradient_rows(norms))}

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
def _gradient(task: Task) -> Any:
    return jax.jit(over_members(lambda p, key, member: task.gradient(p, key, member, 256)))


def groups(settings: Settings) -> list[Group]:
    """All groups of the study, those that share a program side by side."""
    chosen = [contender for contender in CONTENDERS if contender.name in settings.cells]
    return [Group(settings, task, contender) for task in TASKS for contender in chosen]


_HPARAMS = train.HParams()
OPTIMISER = (
    f"AdamW, b1 {_HPARAMS.b1:g}, b2 {_HPARAMS.b2:g}, weight decay {_HPARAMS.weight_decay:g}, "
    f"gradients clipped to a global norm of {_HPARAMS.max_norm:g}"
)
