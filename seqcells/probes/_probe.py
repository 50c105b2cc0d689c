"""The base classes of probes: tasks that measure memory, as static values."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._linear import wide
from seqcells._static import Static, exported
from seqcells.probes import _draw

T = TypeVar("T")


def attribute(get: Callable[[Any], T]) -> T:
    """Return a property that type checkers see as an attribute, which constants may override."""
    return cast(T, property(get))


@exported
class Sample(NamedTuple):
    """A batch of sequences, with the target and the step of each answer.

    Answers are a net's outputs at some steps of each sequence. Inputs after the last answer are
    zero, like padding.
    """

    xs: jax.Array  # float[T, N, D]; all arrays have JAX's default dtypes, float32 and int32
    targets: jax.Array  # [S, N], int classes or float numbers; [S, N, O] for several numbers each
    steps: jax.Array  # int[S, N], the step at which each answer is due, rising along S

    @classmethod
    def at_every_step(cls, xs: jax.Array, targets: jax.Array, start: int = 0) -> Self:
        """Return a sample with the answers [S, N, ...] due at steps start, start + 1, ..."""
        steps = _draw.steps(start, start + len(targets))
        return cls(xs, targets, jnp.broadcast_to(steps, targets.shape[:2]))

    @classmethod
    def at_one_step(cls, xs: jax.Array, targets: jax.Array, step: ArrayLike) -> Self:
        """Return a sample with one answer [N, ...] per sequence, due at the given step."""
        return cls(xs, targets[None], jnp.full((1, len(targets)), step, jnp.int32))

    @property
    def lengths(self) -> jax.Array:
        """Steps up to the last answer, int32[N]; bidirectional nets need them."""
        return self.steps[-1] + 1

    def pick(self, ys: jax.Array) -> jax.Array:
        """Select the outputs at the steps of the answers: [T, N, H] -> [S, N, H]."""
        if jnp.ndim(ys) != 3 or jnp.shape(ys)[:2] != self.xs.shape[:2]:
            expected = f"float[{', '.join(map(str, self.xs.shape[:2]))}, H], like xs"
            raise ValueError(f"ys: expected {expected}, got {_check.describe_one(ys)}")
        return jnp.take_along_axis(ys, self.steps[..., None], axis=0)


@exported
class Score(NamedTuple):
    """The score of a batch of answers, in float32 or wider; NaN if an answer is NaN."""

    loss: jax.Array  # [], mean over answers: nats, or the square of the target's unit
    accuracy: jax.Array  # [], share of correct answers, 0 to 1
    exact: jax.Array  # [], share of sequences with all answers correct, 0 to 1


class Success(NamedTuple):
    """The criterion by which a probe counts as solved, on 10,000 sequences or more."""

    measure: Literal["loss", "accuracy", "exact"]  # a field of `Score`
    bound: float  # an upper bound of a loss, a lower bound of a share


class Probe(Static, abc.ABC):
    """A task, with the criterion by which it counts as solved.

    Subclasses are frozen dataclasses and static in JAX. To add your own probe, subclass `Classes`
    or `Numbers`. Set sizes, baseline and success as class attributes, or as properties if they
    depend on the fields, and define `sample` (and `guess` for `Numbers`).
    """

    LENGTHS: ClassVar[tuple[int, ...]] = ()  # usual values of the field `length`

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

        Settings that should not cause another compilation, such as a lag, are array arguments.
        """

    @abc.abstractmethod
    def guess(self, sample: Sample) -> jax.Array:
        """Return the trivial answer float[S, N, O]: the best answer without memory."""

    @abc.abstractmethod
    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score answers float[S, N, O] against targets [S, N], or [S, N, O] if O numbers each."""

    def solved(self, score: Score) -> jax.Array:
        """Return bool[]: whether a score of 10,000 sequences or more counts as solved."""
        measure, bound = self.success
        value = getattr(score, measure)
        return value < bound if measure == "loss" else value > bound

    def _size(self, name: str, *, least: int) -> None:
        """Check a field that is a size, and convert a NumPy integer to int."""
        object.__setattr__(self, name, _check.size(name, getattr(self, name), least=least))

    def _number(self, name: str, most: float = math.inf) -> None:
        """Check a field that is a number above 0, and convert it to float."""
        value = getattr(self, name)
        real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not real or not 0 < value <= most or not math.isfinite(value):
            bound = "" if most == math.inf else f", at most {most}"
            raise ValueError(f"{name}: expected a number above 0{bound}, got {value!r}")
        object.__setattr__(self, name, float(value))

    def _check_answers(
        self, answers: jax.Array, targets: jax.Array, own: tuple[int, ...] = ()
    ) -> None:
        got, axes = jnp.shape(targets), ", ".join(["S", "N", *map(str, own)])
        if 0 in got:
            raise ValueError(f"targets: expected one answer or more ({axes}), got shape {got}")
        if len(got) != 2 + len(own) or got[2:] != own:
            raise ValueError(f"targets: expected shape ({axes}), got {got}")
        expected = (*got[:2], self.output_size)
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
        return jnp.zeros((*sample.targets.shape, self.output_size), jnp.float32)

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score by cross-entropy in nats; an answer is correct if its largest logit is."""
        self._check_answers(answers, targets)
        logs = jax.nn.log_softmax(answers.astype(wide(answers.dtype)))
        picked = jnp.take_along_axis(logs, targets[..., None], axis=-1)
        chosen = jnp.argmax(answers, axis=-1).astype(targets.dtype)
        return _score(-picked[..., 0], chosen == targets)


class Numbers(Probe):
    """A probe whose answers are numbers, scored by squared error.

    Targets are [S, N] if an answer is one number. If `output_size` is above 1, an answer has
    several numbers and targets are [S, N, O]; its loss is the mean of their squared errors.
    """

    WITHIN: ClassVar[float] = 0.2  # largest error of a correct answer (Pascanu)

    output_size = 1  # one number

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Score by squared error; an answer is correct if no error is above `WITHIN`."""
        self._check_answers(answers, targets, () if self.output_size == 1 else (self.output_size,))
        answers = answers.astype(wide(answers.dtype))
        square = jnp.square(answers - targets.reshape(answers.shape).astype(answers.dtype))
        return _score(jnp.mean(square, axis=-1), jnp.all(square <= self.WITHIN**2, axis=-1))


def _score(losses: jax.Array, right: jax.Array) -> Score:
    """Average losses and correct answers [S, N]; NaN if a loss is NaN."""
    lost = jnp.isnan(losses)

    def share(good: jax.Array, lost: jax.Array) -> jax.Array:
        return jnp.mean(jnp.where(lost, jnp.nan, good.astype(losses.dtype)))

    exact = share(jnp.all(right, axis=0), jnp.any(lost, axis=0))
    return Score(jnp.mean(losses), share(right, lost), exact)
