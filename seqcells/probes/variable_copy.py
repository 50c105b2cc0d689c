"""Copying after a delay that is not known beforehand."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._copying import AtTheEnd
from seqcells.probes._probe import Sample


@dataclasses.dataclass(frozen=True)
class VariableCopy(AtTheEnd):
    """Repeat symbols after a delimiter (Tallec & Ollivier 2018, after Henaff et al. 2016).

    The input is `count` symbols, b blanks, a delimiter, `count` blanks, with b drawn uniformly from
    1 to T for each sequence. The symbols are due at the last `count` of these steps, in their
    order, so b + 1 steps lie between the last symbol and the first answer, where `Copy` has T.
    Guessing costs ln(symbols) per token; all of them correct in more than 99 % of the sequences
    solves it.

    The papers describe only the delay; the other details are ours. Only the answers at the last
    steps are scored; if all steps were, as in `Copy`, short sequences would weigh more than long
    ones. Because the delay varies, a net cannot count steps but must wait for the delimiter.

    Args:
        length: T, the largest number of blanks; at least 1. Arrays have T + 1 + 2 count steps.
        symbols: number of symbols, at least 2.
        count: symbols to copy, at least 1.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (500, 1000)

    length: int = 100
    symbols: int = 8
    count: int = 10

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [T + 1 + 2 count, N, symbols + 2] with `count` answers each.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], replaces T for these sequences, 1 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        length = _draw.knob("length", length, 1, self.length)
        k_symbols, k_blanks = jax.random.split(key)
        symbols = self._draw(k_symbols, batch_size)
        sign = self.count + _draw.integers(k_blanks, (batch_size,), 1, length + 1)
        times = _draw.steps(self.length + 1 + 2 * self.count)
        shown = self.symbols + (times == sign[None]).astype(symbols.dtype)
        shown = jnp.where(times > sign[None] + self.count, -1, shown).at[: self.count].set(symbols)
        steps = sign[None] + 1 + _draw.steps(self.count)
        return Sample(_draw.one_hot(shown, self.input_size), symbols, steps)
