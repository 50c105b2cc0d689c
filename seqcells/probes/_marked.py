"""The base of the adding problems: two numbers of a sequence are marked."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Numbers, Sample, Success


@dataclasses.dataclass(frozen=True)
class Marked(Numbers):
    """Two of the numbers u_t from U[0, 1] are marked; the answer depends on them."""

    SHORTEST: ClassVar[int] = 2  # the minimal length with room for both marks
    MEAN: ClassVar[float]  # of the answer

    length: int = 100

    input_size = 2  # a number and a marker

    def __post_init__(self) -> None:
        self._size("length", least=self.SHORTEST)

    @property
    def _steps(self) -> int:
        """Steps of the longest sequence."""
        return self.length

    @abc.abstractmethod
    def _place(
        self, keys: Sequence[jax.Array], length: jax.Array, batch_size: int
    ) -> tuple[jax.Array, jax.Array]:
        """Draw the steps of the marks, int32[2, N], and the lengths of the sequences, int32[N].

        Takes three keys: for the first mark, the second mark and the length.
        """

    @abc.abstractmethod
    def _ask(self, marked: jax.Array) -> jax.Array:
        """Return the answers [N] to the marked numbers [2, N]."""

    def sample(self, key: jax.Array, batch_size: int, length: ArrayLike | None = None) -> Sample:
        """Draw inputs [steps, N, 2], numbers and markers, with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            length: int[], replaces T for these sequences, from the minimal length to T; may be
                traced. None means T.
        """
        _draw.check(key, batch_size)
        length = _draw.knob("length", length, self.SHORTEST, self.length)
        k_number, *k_places = jax.random.split(key, 4)
        places, lengths = self._place(k_places, length, batch_size)
        numbers = _draw.uniform(k_number, (self._steps, batch_size))
        times = _draw.steps(self._steps)
        marks = jnp.any(times[None] == places[:, None], axis=0)
        answers = self._ask(jnp.take_along_axis(numbers, places, axis=0))
        numbers = jnp.where(times < lengths[None], numbers, 0)
        xs = jnp.stack([numbers, marks.astype(numbers.dtype)], axis=-1)
        return Sample(xs, answers[None], lengths[None] - 1)

    def guess(self, sample: Sample) -> jax.Array:
        """Answer the mean."""
        return jnp.full((*sample.targets.shape, 1), self.MEAN, jnp.float32)


@dataclasses.dataclass(frozen=True)
class MarkedSum(Marked):
    """The answer is the sum."""

    MEAN: ClassVar[float] = 1.0

    baseline = 1 / 6  # mean squared error of always answering 1

    def _ask(self, marked: jax.Array) -> jax.Array:
        return jnp.sum(marked, axis=0)


@dataclasses.dataclass(frozen=True)
class MarkedEarly(Marked):
    """Marks, lengths and success as in Pascanu, Mikolov & Bengio 2013."""

    LENGTHS: ClassVar[tuple[int, ...]] = (50, 100, 150, 200)
    SHORTEST: ClassVar[int] = 10

    success = Success("accuracy", 0.99)

    @property
    def _steps(self) -> int:
        return self.length + self.length // 10

    def _place(
        self, keys: Sequence[jax.Array], length: jax.Array, batch_size: int
    ) -> tuple[jax.Array, jax.Array]:
        k_first, k_second, k_length = keys
        shape = (batch_size,)
        lengths = length + _draw.integers(k_length, shape, 0, length // 10 + 1)
        first = _draw.integers(k_first, shape, 0, lengths // 10)
        second = _draw.integers(k_second, shape, lengths // 10, lengths // 2)
        return jnp.stack([first, second]), lengths
