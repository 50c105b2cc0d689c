"""The base classes of probes: tasks that measure memory, as static values."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._linear import wide
from seqcells._static import Static, exported

T = TypeVar("T")


def attribute(get: Callable[[Any], T]) -> T:
    """Return a property that type checkers see as an attribute: constants may override it."""
    return cast(T, property(get))


@exported
class Sample(NamedTuple):
    """A batch of sequences, with the targets of their answers and the steps of these.

    Answers are a net's outputs at some steps of each sequence. Inputs after the last answer are
    zero, as padding.
    """

    xs: jax.Array  # float[T, N, D]; all arrays have JAX's default dtypes, float32 and int32
    targets: jax.Array  # [S, N], int classes or float numbers
    steps: jax.Array  # int[S, N], the step at which each answer is due, rising along S

    @classmethod
    def at_every_step(cls, xs: jax.Array, targets: jax.Array, start: int = 0) -> Self:
        """Return a sample with the answers [S, N] due at steps start, start + 1, ..."""
        steps = jnp.arange(start, start + len(targets), dtype=jnp.int32)[:, None]
        return cls(xs, targets, jnp.broadcast_to(steps, targets.shape))

    @classmethod
    def at_one_step(cls, xs: jax.Array, targets: jax.Array, step: ArrayLike) -> Self:
        """Return a sample with one answer [N] a sequence, due at the given step."""
        return cls(xs, targets[None], jnp.full((1, len(targets)), step))

    @property
    def lengths(self) -> jax.Array:
        """Steps up to the last answer, int32[N]; for nets that read from both ends."""
        return self.steps[-1] + 1

    def pick(self, ys: jax.Array) -> jax.Array:
        """Select the outputs at the steps of the answers: [T, N, H] -> [S, N, H]."""
        return jnp.take_along_axis(ys, self.steps[..., None], axis=0)


@exported
class Score(NamedTuple):
    """The score of a batch of answers, in float32 or wider; NaN where an answer is NaN."""

    loss: jax.Array  # [], mean over answers: nats, or the square of the target's unit
    accuracy: jax.Array  # [], share of correct answers, 0 to 1
    exact: jax.Array  # [], share of sequences with all answers correct, 0 to 1


class Success(NamedTuple):
    """The criterion by which a probe counts as solved, on 10,000 sequences or more."""

    measure: Literal["loss", "accuracy", "exact"]  # a field of `Score`
    bound: float  # an upper bound of a loss, a lower bound of a share


class Probe(Static, abc.ABC):
    """A task, with the criterion by which it counts as solved.

    Subclasses are frozen dataclasses, and static values to JAX. To add a probe of your own,
    subclass `Classes` or `Numbers`; set sizes, baseline and success as class attributes, or as
    properties where they depend on the fields, and define `sample` (and `guess` for `Numbers`).
    """

    LENGTHS: ClassVar[tuple[int, ...]] = ()  # the usual values of the field `length`

    @attribute
    @abc.abstractmethod
    def input_size(self) -> int:
        """Features of the input, D."""

    @attribute
    @abc.abstractmethod
    def output_size(self) -> int:
        """Size of an answer, O."""

    @attribute
    @abc.abstractmethod
    def baseline(self) -> float:
        """The expected loss of the trivial answer, `guess`."""

    @attribute
    @abc.abstractmethod
    def success(self) -> Success:
        """The criterion by which the probe counts as solved."""

    @abc.abstractmethod
    def sample(self, key: jax.Array, batch_size: int, *args: Any, **knobs: Any) -> Sample:
        """Draw N sequences; a pure function of the key.

        Settings that should not need another compilation, such as a lag, are array arguments.
        """

    @abc.abstractmethod
    def guess(self, sample: Sample) -> jax.Array:
        """Return the trivial answer float[S, N, O]: the best one without memory."""

    @abc.abstractmethod
    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score answers float[S, N, O] against targets [S, N]."""

    def solved(self, score: Score) -> jax.Array:
        """Return bool[]: whether a score of 10,000 sequences or more counts as solved."""
        measure, bound = self.success
        value = getattr(score, measure)
        return value < bound if measure == "loss" else value > bound

    def _check_answers(self, answers: jax.Array, targets: jax.Array) -> None:
        if jnp.ndim(targets) != 2:
            raise ValueError(f"targets: expected shape (S, N), got {jnp.shape(targets)}")
        if 0 in jnp.shape(targets):
            got = jnp.shape(targets)
            raise ValueError(f"targets: expected one answer or more (S, N), got shape {got}")
        expected = (*jnp.shape(targets), self.output_size)
        if jnp.shape(answers) != expected:
            raise ValueError(f"answers: expected shape {expected}, got {jnp.shape(answers)}")


class Classes(Probe):
    """A probe whose answers are logits, scored by cross-entropy in nats."""

    @attribute
    def baseline(self) -> float:
        """Cross-entropy of the uniform distribution over classes, nats."""
        return math.log(self.output_size)

    def guess(self, sample: Sample) -> jax.Array:
        """Return the uniform distribution over classes."""
        return jnp.zeros((*sample.targets.shape, self.output_size))

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score by cross-entropy in nats; an answer is correct if its largest logit is."""
        self._check_answers(answers, targets)
        logs = jax.nn.log_softmax(answers.astype(wide(answers.dtype)))
        picked = jnp.take_along_axis(logs, targets[..., None], axis=-1)
        return _score(-picked[..., 0], jnp.argmax(answers, axis=-1) == targets)


class Numbers(Probe):
    """A probe whose answers are numbers, scored by squared error."""

    WITHIN: ClassVar[float] = 0.2  # largest error of a correct answer (Pascanu)

    output_size = 1  # one number

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score by squared error; an answer is correct if its error is at most `WITHIN`."""
        self._check_answers(answers, targets)
        square = jnp.square(answers[..., 0].astype(wide(answers.dtype)) - targets)
        return _score(square, square <= self.WITHIN**2)


def _score(losses: jax.Array, right: jax.Array) -> Score:
    """Average losses and right answers [S, N]; where a loss is NaN, nothing is known."""
    right = jnp.where(jnp.isnan(losses), losses, right.astype(losses.dtype))
    return Score(jnp.mean(losses), jnp.mean(right), jnp.mean(jnp.min(right, axis=0)))


def knob(name: str, value: ArrayLike | None, low: int, high: int) -> jax.Array:
    """Check an argument of `sample`, an int[] that may be traced; None gives `high`.

    A traced value is clipped to `low` to `high`.

    Raises:
        TypeError: it is not one integer.
        ValueError: it is concrete and outside of `low` to `high`.
    """
    value = high if value is None else value
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        got = _check.describe_one(jnp.asarray(value))
        raise TypeError(f"{name}: expected one int, got {got}; map over it for several")
    _check.within(name, value, low, high, f"{low} to {high} steps")
    return jnp.clip(jnp.asarray(value, jnp.int32), low, high)


def check_draw(key: jax.Array, batch_size: int) -> None:
    """Check the arguments that every `sample` has."""
    _check.key("key", key)
    _check.size("batch_size", batch_size, least=1)
