"""What a probe is: a task made to measure memory, as a static value."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import jax


class Score(NamedTuple):
    """How well a batch was answered."""

    loss: jax.Array  # [], mean over the batch: nats, or the square of the target's unit
    accuracy: jax.Array  # [], share of the batch that is right, 0 to 1


class Probe(abc.ABC):
    """A task with an answer at the last step, and what solving it means.

    Subclasses are frozen dataclasses, registered with JAX as static values. `sample` is a pure
    function of its key.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)

    input_size: int  # D, features of the input
    output_size: int  # numbers in an answer
    baseline: float  # the loss of the best answer that does not look at the input

    @abc.abstractmethod
    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Compare answers float[N, output_size] with targets [N]."""

    @abc.abstractmethod
    def solved(self, score: Score) -> jax.Array:
        """Say whether a score (on 10,000 samples or more) counts as solved: bool[]."""
