"""What a probe is: a task made to measure memory, as a static value."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._static import Static


class Sample(NamedTuple):
    """Sequences, what is asked of them, and when.

    The answers to score are read from a net's outputs at some steps of each sequence; what comes
    after the last of them is padding, and zero.
    """

    xs: jax.Array  # float[T, N, D], as all here in JAX's default dtype: float32, int32
    targets: jax.Array  # [S, N], int classes or float numbers
    steps: jax.Array  # int[S, N], the step at which each answer is due, rising along S

    @property
    def lengths(self) -> jax.Array:
        """Steps up to the last answer, int32[N]; for nets that read from both ends."""
        return self.steps[-1] + 1

    def pick(self, ys: jax.Array) -> jax.Array:
        """Take the outputs at which answers are due: [T, N, H] -> [S, N, H]."""
        return jnp.take_along_axis(ys, self.steps[..., None], axis=0)


class Score(NamedTuple):
    """How well a batch was answered."""

    loss: jax.Array  # [], mean over answers: nats, or the square of the target's unit
    accuracy: jax.Array  # [], share of answers that are right, 0 to 1
    exact: jax.Array  # [], share of sequences of which every answer is right, 0 to 1


class Success(NamedTuple):
    """What counts as solving a probe, on 10,000 sequences or more."""

    measure: Literal["loss", "accuracy", "exact"]  # a field of `Score`
    bound: float  # which a loss has to stay below, and a share to exceed


class Probe(Static, abc.ABC):
    """A task, and what solving it means.

    Subclasses are frozen dataclasses, and static values to JAX. A probe of one's own says its
    sizes, its baseline, its success and how it is sampled, on top of `Classes` or `Numbers`.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = ()  # at which it is usually run, as `length`

    @property
    @abc.abstractmethod
    def input_size(self) -> int:
        """Features of the input, D."""

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """Numbers in an answer, O."""

    @property
    @abc.abstractmethod
    def baseline(self) -> float:
        """The loss of the trivial answer, `guess`, on average over all sequences."""

    @property
    @abc.abstractmethod
    def success(self) -> Success:
        """What counts as solving it."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, batch_size: int, *args: Any, **knobs: Any) -> Sample:
        """Draw N sequences; a pure function of the key.

        What a program should not be compiled anew for, such as a lag, is an array among the knobs.
        """

    @abc.abstractmethod
    def guess(self, sample: Sample) -> jax.Array:
        """Give the trivial answer float[S, N, O]: the best one that remembers nothing."""

    @abc.abstractmethod
    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Compare answers float[S, N, O] with targets [S, N]."""

    def solved(self, score: Score) -> jax.Array:
        """Say whether a score, taken on 10,000 sequences or more, counts as solved: bool[]."""
        measure, bound = self.success
        value = getattr(score, measure)
        return value < bound if measure == "loss" else value > bound

    def _check_answers(self, answers: jax.Array, targets: jax.Array) -> None:
        if jnp.ndim(targets) != 2:
            raise ValueError(f"targets: expected shape (S, N), got {jnp.shape(targets)}")
        if 0 in jnp.shape(targets):
            came = jnp.shape(targets)
            raise ValueError(f"targets: expected one answer or more (S, N), got shape {came}")
        expected = (*jnp.shape(targets), self.output_size)
        if jnp.shape(answers) != expected:
            raise ValueError(f"answers: expected shape {expected}, got {jnp.shape(answers)}")


class Classes(Probe):
    """A probe whose answers are logits, scored by cross-entropy in nats."""

    @property
    def baseline(self) -> float:
        """Cross-entropy of taking all classes for equally likely, nats."""
        return math.log(self.output_size)

    def guess(self, sample: Sample) -> jax.Array:
        """Take all classes for equally likely."""
        return jnp.zeros((*sample.targets.shape, self.output_size))

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score cross-entropy in nats, and the share of largest logits that are right."""
        self._check_answers(answers, targets)
        logs = jax.nn.log_softmax(answers)
        picked = jnp.take_along_axis(logs, targets[..., None], axis=-1)
        return _score(-picked[..., 0], jnp.argmax(answers, axis=-1) == targets)


class Numbers(Probe):
    """A probe whose answers are numbers, scored by squared error."""

    WITHIN: ClassVar[float] = 0.2  # how near an answer is right, in the target's unit (Pascanu)

    @property
    def output_size(self) -> int:
        """One number."""
        return 1

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score the squared error, and the share of answers that are near enough."""
        self._check_answers(answers, targets)
        square = jnp.square(answers[..., 0] - targets)
        return _score(square, square <= self.WITHIN**2)


def _score(losses: jax.Array, right: jax.Array) -> Score:
    every = jnp.all(right, axis=0)
    shares = (jnp.mean(a.astype(losses.dtype)) for a in (right, every))
    return Score(jnp.mean(losses), *shares)


def knob(name: str, value: ArrayLike | None, low: int, high: int) -> jax.Array:
    """Check a knob of `sample`, an int[] that may be traced; `high` where it is None.

    Raises:
        TypeError: where it is not one integer.
        ValueError: where it is concrete and outside of `low` to `high`. A traced one is taken to
            the nearest that can be.
    """
    value = high if value is None else value
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        came = _check.describe_one(jnp.asarray(value))
        raise TypeError(f"{name}: expected one int, got {came}; map over it for several")
    if not isinstance(value, Tracer) and not low <= int(np.asarray(value)) <= high:
        raise ValueError(f"{name}: expected {low} to {high} steps, got {int(np.asarray(value))}")
    return jnp.clip(jnp.asarray(value, jnp.int32), low, high)


def check_draw(key: jax.Array, batch_size: int) -> None:
    """Check what every `sample` is given."""
    _check.key("key", key)
    _check.size("batch_size", batch_size, least=1)
