"""Parity: one bit to keep, which any step may flip."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success


@dataclasses.dataclass(frozen=True)
class Parity(Classes):
    """Return the parity of the ones so far, at every step (compare Delétang et al. 2023).

    Bits are one-hot. Guessing costs ln 2, also at step 0, although the bit itself is the answer
    there. Train at one length and score at 2 to 10 times that length, by
    `dataclasses.replace(probe, length=400)`: the accuracy at the training length does not show
    whether the rule was learned. An accuracy above 0.9 at the longer length solves it. A net that
    is correct up to its training length and then guesses has at most 0.75. Delétang et al. score
    only the last step, which is a different task: here every step gives a training signal.

    Args:
        length: T, steps; at least 1.
    """

    length: int = 40

    input_size = 2  # a bit, one-hot
    output_size = 2  # even, odd
    success = Success("accuracy", 0.9)  # at 2 to 10 times the length of training

    def __post_init__(self) -> None:
        self._size("length", least=1)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, 2] with one answer per step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        bits = _draw.integers(key, (self.length, batch_size), 0, 2)
        targets = jnp.cumsum(bits, axis=0, dtype=jnp.int32) % 2
        return Sample.at_every_step(_draw.one_hot(bits, 2), targets)
