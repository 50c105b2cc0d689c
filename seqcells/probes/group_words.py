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
from seqcells.probes._probe import Classes, Sample, Success

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

    Args:
        group: "Z60", "A4xZ5" or "A5".
        length: T, steps; at least 1.
    """

    group: Literal["Z60", "A4xZ5", "A5"] = "A5"
    length: int = 20

    input_size = 60  # all elements
    output_size = 60  # one logit an element
    success = Success("accuracy", 0.9)

    def __post_init__(self) -> None:
        _check.choice("group", self.group, GROUPS)
        self._size("length", least=1)

    @property
    def table(self) -> np.ndarray:
        """int32[60, 60], the product of elements a and b at [a, b]; element 0 is the identity."""
        return _table(self.group)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, 60] with one answer per step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        table = jnp.asarray(self.table)
        elements = _draw.integers(key, (self.length, batch_size), 0, len(table))
        targets = jax.lax.associative_scan(lambda a, b: table[a, b], elements)
        return Sample.at_every_step(_draw.one_hot(elements, len(table)), targets)


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
