"""Population-based training: its settings, and one of its steps on the trials of a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._types import Json, PyTree
from seqcells.sweep._identity import digest
from seqcells.sweep._space import LogUniform, Space, Uniform
from seqcells.sweep._task import Fields, Task

WORD = 2**24  # folded into the key of the sweep: the ids of trials have words below it
FINAL = "final_"  # prefix of the columns with the last hyperparameters
PARENT = "parent"  # the metric with the id of the trial that a trial became a copy of


class PBT(NamedTuple):
    """Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) of a bucket's trials.

    After every `every` steps, the worst share `quantile` of the trials, by the mean metric of the
    last segment, is replaced. Each of them becomes a copy of a random trial of the best share:
    state, random keys and hyperparameters. Then the hyperparameters of the copy are perturbed. A
    trial whose metric is not finite is replaced, too.

    A perturbed field is multiplied by one of its factors, and clipped to the range of its
    distribution, if it has one. Ints are rounded.
    """

    every: int  # steps, a multiple of the segment
    quantile: float = 0.2  # the share that is replaced, above 0 and at most 0.5
    perturb: Mapping[str, Sequence[float]] | Sequence[float] = (0.8, 1.25)
    # factors above 0 by field, or for all float fields; `segment` must read these fields
    resample: float = 0.0  # chance that a field is drawn from its distribution instead, 0 to 1

    def check(self) -> None:
        """Raise unless the values that do not depend on the space are in range."""
        share, chance = self.quantile, self.resample
        _check.number("pbt.quantile", share, "a share above 0, at most 0.5", lambda a: 0 < a <= 0.5)
        _check.number("pbt.resample", chance, "a chance from 0 to 1", lambda a: 0 <= a <= 1)
        many = self.perturb.values() if isinstance(self.perturb, Mapping) else [self.perturb]
        for factors in many:
            if isinstance(factors, str) or not isinstance(factors, Sequence) or not factors:
                got = _check.describe_one(factors)
                raise TypeError(f"pbt.perturb: expected a list of factors, got {got}")
            for factor in factors:
                _check.positive("pbt.perturb", factor)


class Explored(NamedTuple):
    """How one field is perturbed."""

    factors: tuple[float, ...]
    prior: Uniform | LogUniform | None  # its distribution


class Evolution(NamedTuple):
    """The settings of `PBT` for the fields of a space."""

    every: int
    steps: int  # of the whole training, after which nothing is copied
    sign: int  # the factor that makes a lower metric better
    quantile: float
    resample: float
    fields: dict[str, Explored]  # by name, sorted
    size: int  # the trials of a population
    trials: str  # a hash of the ids of all trials: a population depends on its members

    @classmethod
    def of(cls, pbt: PBT, space: Space, *, steps: int, sign: int) -> Evolution:
        """Return the settings for a space.

        Raises:
            ValueError: a field is unknown, has no factors, or has values that are not finite; or
                a population has fewer than two trials.
        """
        trials = space.trials()
        size = len(trials) // len({trial.bucket for trial in trials})
        values = {name: [trial.hparams[name] for trial in trials] for name in trials[0].hparams}
        _check_members(values, list(trials[0].fields), size)
        evolution = cls(
            every=pbt.every,
            steps=steps,
            sign=sign,
            quantile=float(pbt.quantile),
            resample=float(pbt.resample),
            fields=_fields(pbt.perturb, values, space.distributions),
            size=size,
            trials=digest({"ids": [trial.id for trial in trials]}),
        )
        if pbt.resample and not any(one.prior for one in evolution.fields.values()):
            raise ValueError(
                f"pbt.resample: expected 0, because no field that is perturbed has a distribution, "
                f"got {pbt.resample}"
            )
        return evolution

    @property
    def settings(self) -> Json:
        """The settings that the results depend on, as JSON."""
        return {
            "every": self.every,
            "quantile": self.quantile,
            "perturb": {name: list(one.factors) for name, one in self.fields.items()},
            "resample": self.resample,
            "trials": self.trials,
        }

    def replaced(self, count: int) -> int:
        """Return how many of `count` trials are replaced: at least one, at most a half."""
        return max(1, min(round(self.quantile * count), count // 2))


def _check_members(values: Mapping[str, Sequence[float]], names: list[str], size: int) -> None:
    """Raise unless there are two trials or more, of finite numbers and unique columns."""
    if size < 2:
        raise ValueError(f"space: expected a population of 2 trials or more, got {size}")
    infinite = [name for name, column in values.items() if not np.isfinite(column).all()]
    if infinite:
        raise ValueError(f"{infinite[0]}: expected finite numbers in a population, got inf")
    taken = [name for name in reserved(values) if name in names]
    if taken:
        raise ValueError(
            f"{taken[0]}: expected a unique name, got that of a column of populations; rename it"
        )


def reserved(names: Iterable[str]) -> list[str]:
    """Return the names that a population adds to those of its numbers."""
    return [PARENT, *(FINAL + name for name in names)]


def _fields(
    perturb: Mapping[str, Sequence[float]] | Sequence[float],
    values: Mapping[str, Sequence[float]],
    priors: Mapping[str, Uniform | LogUniform],
) -> dict[str, Explored]:
    """Return how each field is perturbed."""
    numbers = [n for n, column in values.items() if not isinstance(column[0], bool)]
    if not isinstance(perturb, Mapping):
        perturb = {n: perturb for n in numbers if isinstance(values[n][0], float)}
    unknown = [name for name in perturb if name not in numbers]
    if unknown or not perturb:
        got = repr(unknown[0]) if unknown else "no field of floats"
        raise ValueError(
            f"pbt.perturb: expected fields of numbers of the space ({', '.join(numbers)}), got "
            f"{got}"
        )
    return {
        name: Explored(tuple(map(float, factors)), priors.get(name))
        for name, factors in sorted(perturb.items())
    }


class Member(NamedTuple):
    """The state of a trial of a population, whose hyperparameters change."""

    state: PyTree  # of the task
    hparams: Fields


def with_hparams(task: Task) -> Task:
    """Return a task with the hyperparameters in its state."""

    def init(hparams: Fields, key: jax.Array) -> Member:
        return Member(task.init(hparams, key), hparams)

    def segment(member: Member, _: Fields, n: int) -> tuple[Member, dict[str, jax.Array]]:
        state, metrics = task.segment(member.state, member.hparams, n)
        return Member(state, member.hparams), metrics

    return Task(init, segment)


def evolve(
    evolution: Evolution,
    key: jax.Array,
    members: Member,
    score: jax.Array,
    alive: jax.Array,
    present: jax.Array,
    take: Callable[[PyTree, jax.Array], PyTree],
) -> tuple[Member, jax.Array]:
    """Replace the worst trials by perturbed copies of the best ones.

    Args:
        evolution: the settings.
        key: the key of this step.
        members: the states and hyperparameters, arrays [W, ...].
        score: float[W]; lower is better.
        alive: bool[W], the trials whose metric has been finite; False in padding.
        present: bool[W], False in padding.
        take: (tree of arrays [W, ...], int32[W]) -> the rows of these indices.

    Returns:
        The members, and int32[W]: the row that each is a copy of, its own if it is none.
    """
    exploiting, exploring = jax.random.split(key)
    parents = exploit(evolution, exploiting, score, alive, present)
    state, hparams = take(members, parents)
    copied = parents != jnp.arange(len(parents))
    return Member(state, explore(evolution, exploring, hparams, copied)), parents


def exploit(
    evolution: Evolution, key: jax.Array, score: jax.Array, alive: jax.Array, present: jax.Array
) -> jax.Array:
    """Return int32[W]: the row that each row becomes a copy of (truncation selection)."""
    width = len(score)
    rows = jnp.arange(width)
    score = jnp.where(alive & jnp.isfinite(score), score, jnp.inf)
    order = jnp.lexsort((score, ~alive, ~present))  # the best first, the dead, padding
    rank = jnp.argsort(order)
    count = jnp.sum(present)
    share = jnp.asarray([evolution.replaced(n) for n in range(width + 1)])[count]
    best = jnp.minimum(share, jnp.sum(alive))
    worst = present & (~alive | (rank >= count - share)) & (best > 0)
    drawn = jax.random.randint(key, (width,), 0, jnp.maximum(best, 1))
    return jnp.where(worst, order[drawn], rows).astype(jnp.int32)


def explore(evolution: Evolution, key: jax.Array, hparams: Fields, copied: jax.Array) -> Fields:
    """Return hyperparameters [W] by name, perturbed where `copied`, bool[W]."""
    keys = jax.random.split(key, len(evolution.fields))
    after = dict(hparams)
    for i, (name, one) in enumerate(evolution.fields.items()):
        moved = _perturbed(one, keys[i], hparams[name], evolution.resample)
        after[name] = jnp.where(copied, moved, hparams[name])
    return after


def _perturbed(one: Explored, key: jax.Array, values: jax.Array, resample: float) -> jax.Array:
    k_factor, k_choice, k_draw = jax.random.split(key, 3)
    real = jnp.result_type(float)
    index = jax.random.randint(k_factor, values.shape, 0, len(one.factors))
    moved = values.astype(real) * jnp.asarray(one.factors, real)[index]
    if one.prior is not None:
        drawn = _quantile(one.prior, jax.random.uniform(k_draw, values.shape, real))
        chosen = jax.random.uniform(k_choice, values.shape, real) < resample
        moved = jnp.clip(jnp.where(chosen, drawn, moved), one.prior.low, one.prior.high)
    if jnp.issubdtype(values.dtype, jnp.integer):
        return jnp.round(moved).astype(values.dtype)
    most = float(jnp.finfo(values.dtype).max)
    return jnp.clip(moved, -most, most).astype(values.dtype)


def _quantile(prior: Uniform | LogUniform, u: jax.Array) -> jax.Array:
    """Return the quantiles of a distribution, as `prior.at` does for one."""
    if isinstance(prior, Uniform):
        return prior.low + (prior.high - prior.low) * u
    return prior.low * jnp.exp(math.log(prior.high / prior.low) * u)


def number(a: Any) -> float:
    """Return an array without axes as the shortest float that its dtype tells apart."""
    return float(str(a)) if isinstance(a, np.floating) else float(a)


def number_of(id: str) -> float:
    """Return the id of a trial as a number, which a float holds: it has 48 bits."""
    return float(int(id, 16))


def id_of(number: float) -> str:
    """Return the id of a trial from its number."""
    return f"{int(number):012x}"
