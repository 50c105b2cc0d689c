"""Parity: one bit to keep, that any step may turn."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells.probes._probe import Classes, Sample, Success, check_draw


@dataclasses.dataclass(frozen=True)
class Parity(Classes):
    """Say at every step whether the ones so far are odd in number (compare Delétang et al. 2023).

    Bits are one-hot. Guessing costs ln 2, at step 0 too, though there the bit itself is the answer.
    Train at one length and score at 2 to 10 times of it, by `dataclasses.replace(probe,
    length=400)`: an accuracy at the training length says nothing of whether the rule was learned.
    One above 0.9 at the longer solves it, which a net that is right up to the length of its
    training and guesses from there on does not reach (at twice the length it has 0.75). Delétang
    et al. ask at the last step alone, which is another task: here every step teaches.

    Args:
        length: T, steps; at least 1.
    """

    length: int = 40

    def __post_init__(self) -> None:
        _check.size("length", self.length, least=1)

    @property
    def input_size(self) -> int:
        """A bit, one-hot."""
        return 2

    @property
    def output_size(self) -> int:
        """Even, odd."""
        return 2

    @property
    def success(self) -> Success:
        """An accuracy above 0.9, at 2 to 10 times the length of training."""
        return Success("accuracy", 0.9)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, 2] with an answer a step.

        Args:
            key: one random key.
            batch_size: N.
        """
        check_draw(key, batch_size)
        bits = jax.random.randint(key, (self.length, batch_size), 0, 2)
        targets = jnp.cumsum(bits, axis=0) % 2
        steps = jnp.arange(self.length, dtype=jnp.int32)
        return Sample(
            jax.nn.one_hot(bits, 2), targets, jnp.broadcast_to(steps[:, None], targets.shape)
        )
