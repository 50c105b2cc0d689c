"""The base of copying tasks: symbols, blanks, a marker, and the symbols again."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class Symbols(Classes):
    """Symbols to repeat in order, plus a blank and a marker."""

    length: int
    symbols: int
    count: int

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("symbols", least=2)
        self._size("count", least=1)

    @attribute
    def input_size(self) -> int:
        """The symbols, one-hot, then the blank, then the marker."""
        return self.symbols + 2

    def _draw(self, key: jax.Array, batch_size: int) -> jax.Array:
        """Draw the symbols, int32[count, N]."""
        return _draw.integers(key, (self.count, batch_size), 0, self.symbols)


@dataclasses.dataclass(frozen=True)
class AtTheEnd(Symbols):
    """Answers, the symbols, are due only at the end."""

    success = Success("exact", 0.99)

    @attribute
    def output_size(self) -> int:
        """One logit per symbol."""
        return self.symbols


@dataclasses.dataclass(frozen=True)
class AtEveryStep(Symbols):
    """Answers are due at every step: blanks, then the symbols."""

    SIGN: ClassVar[int]  # steps from the marker to the first symbol of the answer

    @attribute
    def output_size(self) -> int:
        """One logit per symbol, then one for the blank."""
        return self.symbols + 1

    @attribute
    def baseline(self) -> float:
        """Cross-entropy of correct blanks and guessed symbols, nats per step."""
        return self.count * math.log(self.symbols) / self._steps

    @property
    def _steps(self) -> int:
        return self.length + 2 * self.count

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [T + 2 count, N, symbols + 2] with an answer at every step.

        Every step is scored, so the number of steps is fixed: if `length` is below T, the other T -
        length blanks come before the symbols. Loss and baseline are still averaged over T + 2 count
        steps; for those of a shorter task, make the probe with that length.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], replaces T for these sequences, 1 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        length = _draw.knob("length", length, 1, self.length)
        symbols = self._draw(key, batch_size)
        blanks = jnp.full((self._steps, batch_size), self.symbols, jnp.int32)
        missing = self.length - length
        shown = jax.lax.dynamic_update_slice_in_dim(blanks, symbols, missing, axis=0)
        shown = shown.at[self._steps - self.count - self.SIGN].set(self.symbols + 1)
        answers = blanks.at[-self.count :].set(symbols)
        return Sample.at_every_step(_draw.one_hot(shown, self.input_size), answers)

    def guess(self, sample: Sample) -> jax.Array:
        """Answer blank until the recall, then all symbols with equal probability."""
        S, N = sample.targets.shape
        recall = _draw.steps(S) >= S - self.count
        blank = jnp.arange(self.output_size)[None] == self.symbols
        logits = jnp.where(recall != blank, jnp.float32(0), -jnp.inf)
        return jnp.broadcast_to(logits[:, None], (S, N, self.output_size))
