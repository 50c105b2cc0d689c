"""What a probe is: a task made to measure memory, as a static value."""

from __future__ import annotations

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._static import Static


class Score(NamedTuple):
    """How well a batch was answered."""

    loss: jax.Array  # [], mean over the batch: nats, or the square of the target's unit
    accuracy: jax.Array  # [], share of the batch that is right, 0 to 1


class Probe(Static, abc.ABC):
    """A task with an answer at the last step, and what solving it means.

    Subclasses are frozen dataclasses, and static values to JAX. `sample` is a pure
    function of its key.
    """

    @property
    @abc.abstractmethod
    def input_size(self) -> int:
        """Features of the input, D."""

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """Numbers in an answer."""

    @property
    @abc.abstractmethod
    def baseline(self) -> float:
        """The loss of the best answer that does not look at the input."""

    @property
    @abc.abstractmethod
    def threshold(self) -> float:
        """The loss below which the task counts as solved."""

    @abc.abstractmethod
    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Compare answers float[N, output_size] with targets [N]."""

    def check_answers(self, answers: jax.Array, targets: jax.Array) -> None:
        """Raise a ValueError unless answers are [N, output_size] and targets [N]."""
        if jnp.ndim(targets) != 1:
            raise ValueError(f"targets: expected shape (N,), got {jnp.shape(targets)}")
        expected = (*jnp.shape(targets), self.output_size)
        if jnp.shape(answers) != expected:
            raise ValueError(f"answers: expected shape {expected}, got {jnp.shape(answers)}")

    def solved(self, score: Score) -> jax.Array:
        """Say whether a score, taken on 10,000 samples or more, counts as solved: bool[]."""
        return score.loss < self.threshold
