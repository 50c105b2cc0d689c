"""The adding problem, in uRNN's form."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells.probes._probe import Probe, Score


@dataclasses.dataclass(frozen=True)
class Adding(Probe):
    """Add the two marked numbers (Arjovsky, Shah & Bengio 2016, after Hochreiter 1997).

    Step t shows (u_t, m_t), u_t from U[0, 1]; one marker stands in each half of the sequence. The
    answer is u_i + u_j; a mean squared error below 0.01 solves it. Always answering 1 costs the
    variance of the sum, 1/6 (the 0.1767 that is often quoted is wrong). Pascanu's and the TCN's
    "adding" are other tasks: other markers, and in Pascanu's the mean is asked for.

    Args:
        length: T, steps; at least 2.
    """

    length: int = 100

    def __post_init__(self) -> None:
        _check.size("length", self.length, least=2)

    @property
    def input_size(self) -> int:
        """A number and a marker."""
        return 2

    @property
    def output_size(self) -> int:
        """The sum."""
        return 1

    @property
    def baseline(self) -> float:
        """Mean squared error of always answering 1."""
        return 1 / 6

    @property
    def threshold(self) -> float:
        """Mean squared error."""
        return 0.01

    def sample(self, key: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
        """Draw inputs float[T, N, 2] and targets float[N]."""
        _check.key("key", key)
        _check.size("batch_size", batch_size, least=1)
        k_number, k_first, k_second = jax.random.split(key, 3)
        half = self.length // 2
        numbers = jax.random.uniform(k_number, (self.length, batch_size))
        first = jax.random.randint(k_first, (batch_size,), 0, half)
        second = jax.random.randint(k_second, (batch_size,), half, self.length)
        times = jnp.arange(self.length)[:, None]
        marks = ((times == first) | (times == second)).astype(numbers.dtype)
        return jnp.stack([numbers, marks], axis=-1), jnp.sum(numbers * marks, axis=0)

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Mean squared error, and the share of answers within 0.2 (Pascanu's err^2 <= 0.04)."""
        self.check_answers(answers, targets)
        square = jnp.square(answers[:, 0] - targets)
        return Score(jnp.mean(square), jnp.mean((square <= 0.04).astype(square.dtype)))
