"""Random permutation: remember the first symbol, among many uninformative ones."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class RandomPermutation(Classes):
    """Name the first symbol at the last step (Martens & Sutskever 2011, as in Pascanu et al. 2013).

    Symbols are one-hot. Step 0 shows symbol 0 or 1, each with probability 1/2, and the answer at
    step T-1 is that symbol: the lag is T-1 steps. The steps between show symbols 2 and up, drawn
    with replacement; in spite of the name nothing is permuted (it goes back to the second
    experiment of Hochreiter & Schmidhuber 1997). Nothing marks the last step. The loss is taken
    only there, and over the two possible symbols; Pascanu's net chooses among all 100 and must
    first learn that 98 never occur. Guessing costs ln 2; fewer than 1 % wrong solves it.

    Args:
        length: T, steps; at least 2.
        symbols: number of symbols, at least 3.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (50, 100, 150, 200)

    length: int = 100
    symbols: int = 100

    output_size = 2  # one logit for each of the two possible first symbols
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("length", least=2)
        self._size("symbols", least=3)

    @attribute
    def input_size(self) -> int:
        """All symbols."""
        return self.symbols

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [T, N, D] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], steps of these sequences, 2 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        length = _draw.knob("length", length, 2, self.length)
        k_first, k_others = jax.random.split(key)
        first = _draw.integers(k_first, (batch_size,), 0, 2)
        others = _draw.integers(k_others, (self.length, batch_size), 2, self.symbols)
        times = _draw.steps(self.length)
        symbols = jnp.where(times == 0, first[None], others)
        symbols = jnp.where(times < length, symbols, -1)  # which one_hot turns into zeros
        return Sample.at_one_step(_draw.one_hot(symbols, self.symbols), first, length - 1)
