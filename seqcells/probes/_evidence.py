"""What the tasks of noisy evidence share: strengths, noise, and the ideal observer."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class Evidence(Classes):
    """A decision between two sides, by the sign of a mean that is seen through noise.

    Sequences have `length` steps of evidence, then `delay` steps of nothing, then one step with a
    go signal, at which the answer is due.
    """

    length: int = 20
    delay: int = 5
    strengths: tuple[float, ...] = (0.064, 0.128, 0.256, 0.512)
    noise: float = 1.0

    output_size = 2  # one logit for a negative mean, one for a positive one

    def __post_init__(self) -> None:
        self._size("length", least=1)
        self._size("delay", least=0)
        strengths = self.strengths if isinstance(self.strengths, tuple) else (self.strengths,)
        if not strengths:
            raise ValueError("strengths: expected one number or more, got ()")
        strengths = tuple(_check.positive("strengths", c) for c in strengths)
        object.__setattr__(self, "strengths", strengths)
        self._number("noise")

    @attribute
    def ideal(self) -> float:
        """The share of right answers of the ideal observer, who adds up all evidence."""
        signal = math.sqrt(self.length) / self.noise
        right = [(1 + math.erf(c * signal / math.sqrt(2))) / 2 for c in self.strengths]
        return sum(right) / len(right)

    @attribute
    def success(self) -> Success:
        """An accuracy above 97 % of that of the ideal observer (our threshold)."""
        return Success("accuracy", 0.97 * self.ideal)

    def _see(self, key: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
        """Draw sides bool[N], and evidence float32[length, N] for them."""
        k_side, k_strength, k_noise = jax.random.split(key, 3)
        sides = _draw.integers(k_side, (batch_size,), 0, 2)
        which = _draw.integers(k_strength, (batch_size,), 0, len(self.strengths))
        signs = (2 * sides - 1).astype(jnp.float32)
        means = signs * jnp.array(self.strengths, jnp.float32)[which]
        noise = jax.random.normal(k_noise, (self.length, batch_size), jnp.float32)
        return sides, means[None] + jnp.float32(self.noise) * noise

    def _sample(self, evidence: list[jax.Array], held: list[jax.Array], sides: jax.Array) -> Sample:
        """Return evidence [length, N] of some channels, held inputs [N], and the go signal."""
        after = self.delay + 1
        channels = [jnp.pad(a, ((0, after), (0, 0))) for a in evidence]
        channels += [jnp.broadcast_to(a[None], channels[0].shape) for a in held]
        last = _draw.steps(self.length + after) == self.length + self.delay
        go = jnp.broadcast_to(last.astype(jnp.float32), channels[0].shape)
        xs = jnp.stack([*channels, go], axis=-1)
        return Sample.at_one_step(xs, sides.astype(jnp.int32), self.length + self.delay)
