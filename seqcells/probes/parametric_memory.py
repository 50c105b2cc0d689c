"""Parametric working memory: was the first number larger than the second?"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success


@dataclasses.dataclass(frozen=True)
class ParametricMemory(Classes):
    """Say whether the first of two numbers was the larger one (Romo et al. 1999).

    Two numbers from U[0, 1], such as the frequencies of two vibrations, are shown `gap` steps
    apart, the second one at the last step. Inputs are the number, 0 at other steps, and 1 where a
    number is shown. The answer at the last step is 1 if the first was larger, else 0. A net that
    sees the second number f alone answers 1 with probability 1 - f, and pays 1/2 nat. An accuracy
    above 0.95 solves it (our threshold).

    Args:
        length: T, the longest gap in steps; sequences have T + 1 steps. At least 1.
    """

    length: int = 20

    input_size = 2  # the number, and whether there is one
    output_size = 2  # one logit for a smaller first number, one for a larger one
    baseline = 0.5  # the mean entropy of a coin with a probability from U[0, 1]
    success = Success("accuracy", 0.95)

    def __post_init__(self) -> None:
        self._size("length", least=1)

    def sample(self, key: jax.Array, batch_size: int, gap: ArrayLike | None = None) -> Sample:
        """Draw inputs [T + 1, N, 2] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            gap: int[], steps from the first number to the second, 1 to T; may be traced. None means
                T.
        """
        _draw.check(key, batch_size)
        gap = _draw.knob("gap", gap, 1, self.length)
        first, second = _draw.uniform(key, (2, batch_size))
        times = _draw.steps(self.length + 1)
        begins, ends = times == self.length - gap, times == self.length
        numbers = jnp.where(begins, first[None], jnp.where(ends, second[None], 0))
        shown = jnp.broadcast_to(begins | ends, numbers.shape).astype(jnp.float32)
        larger = (first > second).astype(jnp.int32)
        return Sample.at_one_step(jnp.stack([numbers, shown], axis=-1), larger, self.length)

    def guess(self, sample: Sample) -> jax.Array:
        """Return the probabilities given the second number, as logits."""
        second = sample.xs[-1, :, 0][None]
        return jnp.log(jnp.stack([second, 1 - second], axis=-1))
