"""Group words: the running product of the elements of a group."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute

GROUPS = ("Z60", "A4xZ5", "A5")


@dataclasses.dataclass(frozen=True)
class GroupWords(Classes):
    """Return the product g_1 g_2 ... g_t at every step (Merrill, Petty & Sabharwal 2024).

    Elements are drawn uniformly and shown one-hot. The three groups have order 60 and are
    increasingly hard for a net of bounded depth: the cyclic "Z60"; "A4xZ5", which does not commute
    but is solvable; and "A5", the smallest group that is not solvable. A nonlinear recurrent net
    can do all three in one layer; a linear one with diagonal transitions cannot do A5 at every
    length, unless TC0 = NC1. Guessing costs ln 60, also at step 0, although the element itself is
    the answer there. An accuracy above 0.9, Merrill's threshold, solves it. Score also at 2 to 10
    times the training length, by `dataclasses.replace(probe, length=200)`: at the training length a
    net may have learned words instead of the group.

    Words of a few letters that generate the group, such as (16, 24) for "A5", cycles of five and of
    three, are sooner learned (compare Liu et al. 2023). Few products are possible at their first
    steps, so guessing costs less there.

    Args:
        group: "Z60", "A4xZ5" or "A5".
        length: T, steps; at least 1.
        letters: the elements of which words are made, as rows of `table`; all if None.
    """

    group: Literal["Z60", "A4xZ5", "A5"] = "A5"
    length: int = 20
    letters: tuple[int, ...] | None = None

    output_size = 60  # one logit an element
    success = Success("accuracy", 0.9)

    def __post_init__(self) -> None:
        _check.choice("group", self.group, GROUPS)
        self._size("length", least=1)
        if self.letters is not None:
            _check_letters(self.letters)

    @attribute
    def input_size(self) -> int:
        """The letters, one-hot."""
        return len(self._letters)

    @attribute
    def baseline(self) -> float:
        """Mean entropy of the product at a step, nats."""
        likely = self._products
        return float(-np.mean(np.sum(likely * _logs(likely), axis=1)))

    @property
    def table(self) -> np.ndarray:
        """int32[60, 60], the product of elements a and b at [a, b]; element 0 is the identity."""
        return _table(self.group)

    @property
    def _letters(self) -> np.ndarray:
        return np.arange(60, dtype=np.int32) if self.letters is None else np.asarray(self.letters)

    @property
    def _products(self) -> np.ndarray:
        """float64[T, 60], the probabilities of the product at each step."""
        steps, at = [], np.eye(60)[0]  # the empty word is the identity
        for _ in range(self.length):
            steps.append(np.zeros(60))
            np.add.at(steps[-1], self.table[:, self._letters], at[:, None] / self.input_size)
            at = steps[-1]
        return np.stack(steps)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, letters] with one answer per step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        table = jnp.asarray(self.table)
        drawn = _draw.integers(key, (self.length, batch_size), 0, self.input_size)
        elements = jnp.asarray(self._letters, jnp.int32)[drawn]
        targets = jax.lax.associative_scan(lambda a, b: table[a, b], elements)
        return Sample.at_every_step(_draw.one_hot(drawn, self.input_size), targets)

    def guess(self, sample: Sample) -> jax.Array:
        """Return the probabilities of the product at each step, as logarithms."""
        logs = jnp.asarray(_logs(self._products)[:, None], jnp.float32)
        return jnp.broadcast_to(logs, (*sample.targets.shape, self.output_size))


def _logs(likely: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, finite ones for 0."""
    return np.log(np.maximum(likely, 1e-9))


def _check_letters(letters: object) -> None:
    """Raise unless they are a tuple of different elements."""
    several = letters if isinstance(letters, tuple) else ()
    known = all(type(one) is int and 0 <= one < 60 for one in several)
    if not known or not 0 < len(several) == len(set(several)):
        raise ValueError(
            f"letters: expected a tuple of one or more different ints from 0 to 59, got {letters!r}"
        )


@functools.cache
def _table(group: str) -> np.ndarray:
    """Return the multiplication table of a group, int32, read-only because it is cached."""
    if group == "A4xZ5":
        first, second = _alternating(4), _cyclic(5)
        a, b = np.divmod(np.arange(60), 5)
        table = first[a[:, None], a] * 5 + second[b[:, None], b]
    else:
        table = _cyclic(60) if group == "Z60" else _alternating(5)
    table = table.astype(np.int32)
    table.flags.writeable = False
    return table


def _cyclic(order: int) -> np.ndarray:
    return np.add.outer(np.arange(order), np.arange(order)) % order


def _alternating(points: int) -> np.ndarray:
    """Return even permutations in lexicographic order; the right factor of a product acts first."""
    even = [p for p in itertools.permutations(range(points)) if _is_even(p)]
    at = {p: i for i, p in enumerate(even)}
    return np.array([[at[tuple(p[i] for i in q)] for q in even] for p in even])


def _is_even(permutation: tuple[int, ...]) -> bool:
    pairs = itertools.combinations(permutation, 2)
    return sum(left > right for left, right in pairs) % 2 == 0
