"""Interval production: wait as long as two signals were apart."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class IntervalProduction(Classes):
    """Measure the interval between two signals, and produce it (Jazayeri & Shadlen 2010).

    One input is "ready", the other "set", each 1 at its step and else 0. Ready comes after 0 to
    high - 1 steps, set after a random interval of low to high steps. At each of the low + high - 2
    steps after set, the answer is whether the interval has passed again: 0 before, 1 from the step
    on that is as long after set as set was after ready. Each answer is as often 1 as 0, over all
    steps, so guessing costs ln 2. An accuracy above 0.95 solves it (our threshold): of the default
    36 answers of a sequence, 1 or 2 may be wrong.

    Args:
        low: the shortest interval in steps, at least 2.
        high: the longest one, at least `low`.
    """

    low: int = 8
    high: int = 30

    input_size = 2  # ready, set
    output_size = 2  # one logit for "not yet", one for "now"
    success = Success("accuracy", 0.95)

    def __post_init__(self) -> None:
        self._size("low", least=2)
        self._size("high", least=self.low)

    @attribute
    def answers(self) -> int:
        """Answers of a sequence, S."""
        return self.low + self.high - 2

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [low + 3 high - 2, N, 2] with low + high - 2 answers each.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        k_ready, k_interval = jax.random.split(key)
        ready = _draw.integers(k_ready, (batch_size,), 0, self.high)
        interval = _draw.integers(k_interval, (batch_size,), self.low, self.high + 1)
        times = _draw.steps(2 * self.high + self.answers)
        ready, interval = ready[None], interval[None]
        xs = jnp.stack([times == ready, times == ready + interval], axis=-1)
        after = _draw.steps(1, self.answers + 1)
        passed = (after >= interval).astype(jnp.int32)
        return Sample(xs.astype(jnp.float32), passed, after + ready + interval)
