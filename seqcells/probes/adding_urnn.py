"""The adding problem, in uRNN's form."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells.probes._probe import Numbers, Sample, Success, check_draw, knob


@dataclasses.dataclass(frozen=True)
class AddingURNN(Numbers):
    """Add the two marked numbers (Arjovsky, Shah & Bengio 2016, after Hochreiter 1997).

    Step t shows (u_t, m_t), u_t from U[0, 1]; one marker stands in each half of the sequence. The
    answer at the last step is u_i + u_j; a mean squared error below 0.01 solves it. Always
    answering 1 costs the variance of the sum, 1/6 (the 0.1767 that is often quoted is wrong).
    `AddingPascanu` and `AddingTCN` are other tasks: other markers, and in Pascanu's the mean is
    asked for.

    Args:
        length: T, steps; at least 2.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (100, 200, 400, 750)

    length: int = 100

    def __post_init__(self) -> None:
        _check.size("length", self.length, least=2)

    @property
    def input_size(self) -> int:
        """A number and a marker."""
        return 2

    @property
    def baseline(self) -> float:
        """Mean squared error of always answering 1."""
        return 1 / 6

    @property
    def success(self) -> Success:
        """A mean squared error below 0.01."""
        return Success("loss", 0.01)

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [T, N, 2] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], steps of these sequences, 2 to T; may be traced. T where None.
        """
        check_draw(key, batch_size)
        length = knob("length", length, 2, self.length)
        k_number, k_first, k_second = jax.random.split(key, 3)
        first = jax.random.randint(k_first, (batch_size,), 0, length // 2)
        second = jax.random.randint(k_second, (batch_size,), length // 2, length)
        numbers = jax.random.uniform(k_number, (self.length, batch_size))
        times = jnp.arange(self.length)[:, None]
        marks = ((times == first) | (times == second)).astype(numbers.dtype)
        numbers = jnp.where(times < length, numbers, 0)
        targets = jnp.sum(numbers * marks, axis=0, keepdims=True)
        return Sample(
            jnp.stack([numbers, marks], axis=-1), targets, jnp.full((1, batch_size), length - 1)
        )

    def guess(self, sample: Sample) -> jax.Array:
        """Answer 1, the mean of the sum."""
        return jnp.ones((*sample.targets.shape, 1))
