"""Sine wave: generate a wave whose frequency a constant input sets."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from seqcells.probes import _draw
from seqcells.probes._probe import Numbers, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class SineWave(Numbers):
    """Generate sin(w t), with a w that a constant input sets (Sussillo & Barak 2013).

    The frequency w is one of `count`, from 0.1 to 0.6 radians per step, evenly spaced. The input is
    its rank, scaled to (rank + 1) / count + 1/4, the same at every step. Step t = 0 to T - 1 asks
    for sin(w (t + 1)). Answering the mean of each wave costs its variance, about 1/2. An accuracy
    above 0.99, with answers right within 0.2, solves it (our threshold).

    Args:
        length: T, steps; at least 1.
        count: number of frequencies, at least 1.
    """

    length: int = 100
    count: int = 51

    input_size = 1
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("count", least=1)

    @attribute
    def frequencies(self) -> tuple[float, ...]:
        """The frequencies by rank, radians per step."""
        return tuple(0.1 + 0.5 * i / max(self.count - 1, 1) for i in range(self.count))

    def _waves(self) -> np.ndarray:
        """Return float64[T, count], the wave of each frequency."""
        return np.sin(np.outer(np.arange(1, self.length + 1), self.frequencies))

    @attribute
    def baseline(self) -> float:
        """The variance over time, mean over the frequencies."""
        return float(np.mean(np.var(self._waves(), axis=0)))

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, 1] with an answer at every step.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        ranks = _draw.integers(key, (batch_size,), 0, self.count)
        scaled = (ranks + 1).astype(jnp.float32) / self.count + 0.25
        xs = jnp.broadcast_to(scaled[None, :, None], (self.length, batch_size, 1))
        w = jnp.array(self.frequencies, jnp.float32)[ranks]
        times = _draw.steps(1, self.length + 1).astype(jnp.float32)
        return Sample.at_every_step(xs, jnp.sin(w[None] * times))

    def guess(self, sample: Sample) -> jax.Array:
        """Answer the mean of the wave over time."""
        ranks = jnp.round((sample.xs - 0.25) * self.count).astype(jnp.int32) - 1
        return jnp.array(np.mean(self._waves(), axis=0), jnp.float32)[ranks]
