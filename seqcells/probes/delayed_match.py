"""Delayed match: are two cues the same, with a gap between them?"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class DelayedMatch(Classes):
    """Decide whether a cue equals the one shown `gap` steps ago (delayed match to sample).

    Symbols are one-hot. Steps 0 to T show distractors from a separate alphabet, except that step T
    - gap shows a cue, and step T shows a second one: the same with probability 1/2, else one of the
    others, uniformly. The answer at step T is 1 for the same cue, 0 for another. Neither cue alone
    is informative. (With independent cues, always answering 0 would be wrong only once in `cues`
    cases.) Guessing costs ln 2; an accuracy above 0.99 solves it.

    Args:
        length: T, the longest gap in steps; sequences have T + 1 steps. At least 1.
        cues: number of cues, at least 2.
        distractors: number of distractors, at least 1.
    """

    length: int = 100
    cues: int = 8
    distractors: int = 8

    output_size = 2  # one logit for another cue, one for the same
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("cues", least=2)
        self._size("distractors", least=1)

    @attribute
    def input_size(self) -> int:
        """Cues, then distractors."""
        return self.cues + self.distractors

    def sample(self, key: jax.Array, batch_size: int, gap: ArrayLike | None = None) -> Sample:
        """Draw inputs [T + 1, N, D] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            gap: int[], steps from the first cue to the second, 1 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        gap = _draw.knob("gap", gap, 1, self.length)
        k_first, k_same, k_turn, k_noise = jax.random.split(key, 4)
        first = _draw.integers(k_first, (batch_size,), 0, self.cues)
        same = jax.random.bernoulli(k_same, np.float32(0.5), (batch_size,))
        turn = _draw.integers(k_turn, (batch_size,), 1, self.cues)
        second = jnp.where(same, first, (first + turn) % self.cues)
        noise = _draw.integers(k_noise, (self.length + 1, batch_size), 0, self.distractors)
        times = _draw.steps(self.length + 1)
        symbols = jnp.where(times == self.length - gap, first[None], noise + self.cues)
        symbols = jnp.where(times == self.length, second[None], symbols)
        xs = _draw.one_hot(symbols, self.input_size)
        return Sample.at_one_step(xs, same.astype(jnp.int32), self.length)
