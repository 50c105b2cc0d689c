"""Temporal order: the order in which two or three symbols occurred."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute

_TENTHS = {2: (1, 5), 3: (1, 3, 6)}  # share of the length at which a symbol may first occur


@dataclasses.dataclass(frozen=True)
class TemporalOrder(Classes):
    """Report the order in which A and B occurred (Pascanu, Mikolov & Bengio 2013).

    The six symbols are one-hot: A, B and the distractors c, d, e, f. The sequence consists of
    distractors, except for one step in each of two windows, [.1 T, .2 T) and [.5 T, .6 T), or
    three, at .1, .3 and .6 of T, which shows A or B. The answer at the last step is AA, AB, BA or
    BB (or AAA to BBB): the first symbol was at least 0.8 T steps earlier, the last 0.4 T, or 0.3 T
    of three. Guessing costs ln 4 or ln 8; less than 1 % errors in 10,000 sequences solves it.

    The input does not mark the end, so if all sequences have one length, a net may learn the step.
    Hochreiter & Schmidhuber 1997 have another task by this name, with a sign at either end and 100
    to 110 steps.

    Args:
        length: T, steps; at least 10.
        symbols: number of symbols to order, 2 or 3.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (50, 100, 150, 200)

    length: int = 100
    symbols: int = 2

    input_size = 6  # A, B, then the four distractors
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("length", least=10)
        self._size("symbols", least=2)
        if self.symbols not in _TENTHS:
            raise ValueError(f"symbols: expected 2 or 3, got {self.symbols}")

    @attribute
    def output_size(self) -> int:
        """One logit an order: AA, AB, BA, BB, or AAA, AAB, ... BBB."""
        return 2**self.symbols

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [T, N, 6] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], steps of these sequences, 10 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        length = _draw.knob("length", length, 10, self.length)
        k_place, k_symbol, k_noise = jax.random.split(key, 3)
        shape = (self.symbols, batch_size)
        opens = jnp.array(_TENTHS[self.symbols], jnp.int32)[:, None] * length // 10
        places = opens + _draw.integers(k_place, shape, 0, length // 10)
        symbols = _draw.integers(k_symbol, shape, 0, 2)
        shown = _draw.integers(k_noise, (self.length, batch_size), 2, self.input_size)
        shown = shown.at[places, jnp.arange(batch_size)].set(symbols)
        shown = jnp.where(_draw.steps(self.length) < length, shown, -1)
        digits = 2 ** jnp.arange(self.symbols, dtype=jnp.int32)[::-1, None]
        answers = jnp.sum(symbols * digits, axis=0, dtype=jnp.int32)
        return Sample.at_one_step(_draw.one_hot(shown, self.input_size), answers, length - 1)
