"""Parity and modular sums: a state to keep, which any step may change."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class Parity(Classes):
    """Return the parity of the ones so far, at every step (compare Delétang et al. 2023).

    For another modulus m, the inputs are digits from 0 to m - 1, and the answer is their sum so far
    modulo m. Bits or digits are one-hot. Guessing costs ln m, also at step 0, although the bit
    itself is the answer there. Train at one length and score at 2 to 10 times that length, by
    `dataclasses.replace(probe, length=400)`: the accuracy at the training length does not show
    whether the rule was learned. An accuracy above 0.9 at the longer length solves it. A net that
    is correct up to its training length and then guesses has at most 0.75 (modulo 2). Delétang et
    al. score only the last step, which is a different task: here every step gives a training
    signal.

    Args:
        length: T, steps; at least 1.
        modulus: m, at least 2.
    """

    length: int = 40
    modulus: int = 2

    success = Success("accuracy", 0.9)  # at 2 to 10 times the length of training

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("modulus", least=2)

    @attribute
    def input_size(self) -> int:
        """A bit or a digit, one-hot."""
        return self.modulus

    @attribute
    def output_size(self) -> int:
        """One logit per remainder."""
        return self.modulus

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, m] with one answer per step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        digits = _draw.integers(key, (self.length, batch_size), 0, self.modulus)
        targets = jnp.cumsum(digits, axis=0, dtype=jnp.int32) % self.modulus
        return Sample.at_every_step(_draw.one_hot(digits, self.modulus), targets)
