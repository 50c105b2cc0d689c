"""Parity: one bit to keep, that any step may turn."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success


@dataclasses.dataclass(frozen=True)
class Parity(Classes):
    """Return the parity of the ones so far, at every step (compare Delétang et al. 2023).

    Bits are one-hot. Guessing costs ln 2, at step 0 too, though there the bit itself is the answer.
    Train at one length and score at 2 to 10 times of it, by `dataclasses.replace(probe,
    length=400)`: an accuracy at the training length does not show whether the rule was learned.
    One above 0.9 at the longer solves it, which a net that is right up to the length of its
    training and guesses from there on does not reach (at twice the length it has 0.75). Delétang
    et al. ask at the last step alone, which is another task: here every step teaches.

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
        """Draw inputs [T, N, 2] with an answer a step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        bits = _draw.integers(key, (self.length, batch_size), 0, 2)
        targets = jnp.cumsum(bits, axis=0, dtype=jnp.int32) % 2
        return Sample.at_every_step(_draw.one_hot(bits, 2), targets)
