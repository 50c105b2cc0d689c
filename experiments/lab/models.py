"""The model of the studies: a cell that reads the sequence, and a linear readout at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

import seqcells as sc
from seqcells import probes, train


class ReaderParams(NamedTuple):
    """Parameters of `Reader`."""

    cell: Any  # of the cell
    w: jax.Array  # [H, O]
    b: jax.Array  # [O]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A cell or a layer, and a linear readout of its output wherever an answer is due."""

    cell: Any
    output_size: int

    @property
    def net(self) -> sc.Layer:
        """The cell as a layer."""
        return self.cell if isinstance(self.cell, sc.Layer) else sc.Recurrent(self.cell)

    def init(self, key: jax.Array, input_size: int) -> ReaderParams:
        """Make parameters; the cell's initialisers are its own."""
        k_cell, k_out = jax.random.split(key)
        shape = (self.net.output_size(input_size), self.output_size)
        w = sc.initializers.Lecun()(k_out, shape, jnp.float32)
        return ReaderParams(self.net.init(k_cell, input_size), w, jnp.zeros(self.output_size))

    def read(self, params: ReaderParams, y: jax.Array) -> jax.Array:
        """Answer float[S, N, O] from the cell's outputs float[S, N, H]."""
        return y @ params.w + params.b

    def __call__(self, params: ReaderParams, sample: probes.Sample) -> jax.Array:
        """Answer float[S, N, O]."""
        _, ys = self.net.apply(params.cell, sample.xs)
        return self.read(params, sample.pick(ys))


class Member(NamedTuple):
    """What differs between the members of a group that one program trains."""

    hparams: train.HParams
    knobs: dict[str, jax.Array]  # arguments of the probe's `sample`, such as {"lag": int[]}


class Penalty(Protocol):
    """What is added to a loss, as a value: (cell, its parameters, xs, loss of ys) -> float[]."""

    def __call__(
        self, cell: Any, params: Any, xs: jax.Array, loss: Callable[[Any], jax.Array]
    ) -> jax.Array:
        """Compute the penalty."""
        ...


@dataclasses.dataclass(frozen=True)
class Omega:
    """Pascanu's: gradients are to keep their norm on the way back."""

    weight: float  # alpha
    form: str = "paper"

    def __call__(self, cell: Any, params: Any, xs: jax.Array, loss: Any) -> jax.Array:
        """Weigh `seqcells.remedies.omega`."""
        return self.weight * sc.remedies.omega(cell, params, xs, loss, form=self.form)


@dataclasses.dataclass(frozen=True)
class Flossing:
    """Engelken's: the leading Lyapunov exponents are to be 0."""

    weight: float
    k: int  # how many exponents

    def __call__(self, cell: Any, params: Any, xs: jax.Array, loss: Any) -> jax.Array:
        """Weigh `seqcells.remedies.flossing`."""
        return self.weight * sc.remedies.flossing(cell, params, xs, self.k)


@dataclasses.dataclass(frozen=True)
class Task:
    """A model and a probe; as a loss for `seqcells.train` it is a value, and compiles once.

    A penalty is added to what is trained, never to what is scored.
    """

    reader: Reader
    probe: probes.Probe
    batch_size: int
    penalty: Penalty | None = None

    def __call__(
        self, params: ReaderParams, key: jax.Array, member: Member
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Score a fresh batch: what is trained on it, and the measure of its success."""
        sample = self.probe.sample(key, self.batch_size, **member.knobs)
        score = self._score(params, sample)
        further = {"measure": getattr(score, self.probe.success.measure)}
        if self.penalty is None:
            return score.loss, further
        cell = self.reader.cell
        return score.loss + self.penalty(
            cell, params.cell, sample.xs, lambda ys: self._of_outputs(params, sample, ys).loss
        ), further

    def _score(self, params: ReaderParams, sample: probes.Sample) -> probes.Score:
        return self.probe.score(self.reader(params, sample), sample.targets)

    def _of_outputs(
        self, params: ReaderParams, sample: probes.Sample, ys: jax.Array
    ) -> probes.Score:
        return self.probe.score(self.reader.read(params, sample.pick(ys)), sample.targets)

    def score(
        self, params: ReaderParams, key: jax.Array, member: Member, size: int
    ) -> probes.Score:
        """Score `size` fresh samples."""
        return self._score(params, self.probe.sample(key, size, **member.knobs))

    def evaluate(
        self, params: ReaderParams, key: jax.Array, member: Member, size: int
    ) -> probes.Score:
        """Score at least `size` fresh samples, 500 at a time."""
        keys = jax.random.split(key, -(-size // 500))
        scores = jax.lax.map(lambda k: self.score(params, k, member, min(size, 500)), keys)
        return jax.tree.map(jnp.mean, scores)

    def gradient(
        self, params: ReaderParams, key: jax.Array, member: Member, size: int
    ) -> jax.Array:
        """Mean over `size` samples of ||dL/dh|| by lag, float[T], L being the loss of a sample."""
        sample = self.probe.sample(key, size, **member.knobs)

        def loss(ys: jax.Array) -> jax.Array:
            return size * self._of_outputs(params, sample, ys).loss

        norms = sc.diagnostics.gradient_by_lag(self.reader.cell, params.cell, sample.xs, loss)
        return jnp.mean(norms, axis=1)


def optimizer(member: Member) -> Any:
    """AdamW with the member's hyperparameters."""
    return train.adamw(member.hparams)
