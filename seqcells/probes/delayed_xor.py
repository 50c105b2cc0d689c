"""Delayed XOR: two bits of the past, at every step."""

from __future__ import annotations

import dataclasses

import jax

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success


@dataclasses.dataclass(frozen=True)
class DelayedXOR(Classes):
    """Return s(t-d) XOR s(t-2d) at every step t from 2d on, for random bits s (our own task).

    Bits are one-hot. Neither bit alone is informative, so a net that keeps only one of them is no
    better than chance. Because every step has an answer, it must keep 2d bits at a time. Guessing
    costs ln 2; an accuracy above 0.99 solves it. The delay is static, unlike the lag of
    `DelayedRecall`, because the number of answers, a shape, depends on it.

    Args:
        length: T, steps; more than 2d.
        delay: d, steps; at least 1.
    """

    length: int = 100
    delay: int = 10

    input_size = 2  # a bit, one-hot
    output_size = 2  # one logit per value of a bit
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("delay", least=1)
        self._size("length", least=2 * self.delay + 1)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, 2] with T - 2d answers each.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        bits = _draw.integers(key, (self.length, batch_size), 0, 2)
        targets = bits[self.delay : -self.delay] ^ bits[: -2 * self.delay]
        return Sample.at_every_step(_draw.one_hot(bits, 2), targets, start=2 * self.delay)
