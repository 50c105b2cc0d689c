"""Flip-flop: several bits to keep, each until it is set again."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._probe import Numbers, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class FlipFlop(Numbers):
    """Return the last pulse of every bit, at every step (Sussillo & Barak 2013).

    Each bit has its own input, which is 0 except for random pulses, +1 or -1 with probability 1/2
    each. The output must keep the value of the last pulse. At step 0 every bit has a pulse, so that
    each answer is defined. An answer is one number per bit, and is correct if all are within 0.5;
    the loss is the mean of their squared errors. Always answering 0 costs 1; a net that sees only
    the current step still pays (1 - rate) (T - 1) / T. An accuracy above 0.99 solves it (our
    threshold). A net that has learned it has 2^bits fixed points.

    Args:
        length: T, steps; at least 1.
        bits: number of bits, at least 1.
        rate: probability of a pulse, for each bit and step; above 0, at most 1.
    """

    WITHIN: ClassVar[float] = 0.5

    length: int = 100
    bits: int = 3
    rate: float = 0.2

    baseline = 1.0  # the square of either pulse
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("bits", least=1)
        self._number("rate", 1)

    @attribute
    def input_size(self) -> int:
        """One number per bit."""
        return self.bits

    @attribute
    def output_size(self) -> int:
        """One number per bit."""
        return self.bits

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, bits], with an answer of `bits` numbers per step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        k_time, k_sign = jax.random.split(key)
        shape = (self.length, batch_size, self.bits)
        times = _draw.steps(self.length)[..., None]
        shows = (_draw.uniform(k_time, shape) < self.rate) | (times == 0)
        signs = 2 * _draw.integers(k_sign, shape, 0, 2) - 1
        last = jax.lax.cummax(jnp.where(shows, times, 0), axis=0)
        xs = jnp.where(shows, signs, 0).astype(jnp.float32)
        return Sample.at_every_step(xs, jnp.take_along_axis(xs, last, axis=0))

    def guess(self, sample: Sample) -> jax.Array:
        """Answer 0 for every bit."""
        return jnp.zeros_like(sample.targets)
