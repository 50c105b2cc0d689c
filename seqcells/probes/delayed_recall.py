"""Delayed recall: one symbol to keep for a known number of steps."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class DelayedRecall(Classes):
    """Report a cue that was shown `lag` steps ago (compare Bengio, Simard & Frasconi 1994).

    Symbols are one-hot. Steps 0 to T-1 show distractors from a separate alphabet, except that step
    T - lag shows the cue. Step T shows a report sign, and the answer is the cue, exactly `lag`
    steps earlier. The lag is an array, so one compiled program serves all lags. Guessing costs
    ln(cues); a cross-entropy below 0.05 nats solves it.

    At a lag of T the cue is the first input, to a net at rest; at smaller lags it comes after
    distractors, which is harder for a net with chaotic activity. To compare lags, choose a T larger
    than all of them.

    Args:
        length: T, the longest lag in steps; sequences have T + 1 steps. At least 1.
        cues: number of cues, at least 2.
        distractors: number of distractors, at least 1.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (10, 25, 50, 100, 200)

    length: int = 100
    cues: int = 8
    distractors: int = 8

    success = Success("loss", 0.05)

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("cues", least=2)
        self._size("distractors", least=1)

    @attribute
    def input_size(self) -> int:
        """Cues, then distractors, then the report sign."""
        return self.cues + self.distractors + 1

    @attribute
    def output_size(self) -> int:
        """One logit per cue."""
        return self.cues

    def sample(self, key: jax.Array, batch_size: int, lag: ArrayLike | None = None) -> Sample:
        """Draw inputs [T + 1, N, D] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            lag: int[], steps from the cue to the report, 1 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        lag = _draw.knob("lag", lag, 1, self.length)
        k_cue, k_noise = jax.random.split(key)
        cue = _draw.integers(k_cue, (batch_size,), 0, self.cues)
        noise = _draw.integers(k_noise, (self.length + 1, batch_size), 0, self.distractors)
        times = _draw.steps(self.length + 1)
        symbols = jnp.where(times == self.length - lag, cue[None], noise + self.cues)
        symbols = jnp.where(times == self.length, self.input_size - 1, symbols)
        return Sample.at_one_step(_draw.one_hot(symbols, self.input_size), cue, self.length)
