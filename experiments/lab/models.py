"""The model of the studies: a cell that reads the sequence, and a linear readout of its output."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

import seqcells as sc
from seqcells import probes, train
from seqcells._cell import Params

Net = sc.Cell | sc.Layer


class ReaderParams(NamedTuple):
    """Parameters of `Reader`."""

    cell: Params
    w: jax.Array  # [H, O]
    b: jax.Array  # [O]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A cell or a layer, and a linear readout of its output at the steps of the answers."""

    cell: Net
    output_size: int

    @property
    def net(self) -> sc.Layer:
        """The cell as a layer."""
        return self.cell if isinstance(self.cell, sc.Layer) else sc.Recurrent(self.cell)

    def init(self, key: jax.Array, input_size: int) -> ReaderParams:
        """Make parameters; the cell uses its own initialisers."""
        k_cell, k_out = jax.random.split(key)
        shape = (self.net.output_size(input_size), self.output_size)
        w = sc.initializers.Lecun()(k_out, shape, jnp.float32)
        return ReaderParams(self.net.init(k_cell, input_size), w, jnp.zeros(self.output_size))

    def read(self, params: ReaderParams, y: jax.Array) -> jax.Array:
        """Return the answers float[S, N, O] to the cell's outputs float[S, N, H]."""
        return y @ params.w + params.b

    def __call__(self, params: ReaderParams, sample: probes.Sample) -> jax.Array:
        """Return the answers float[S, N, O]."""
        _, ys = sc.unroll(self.net, params.cell, sample.xs)
        return self.read(params, sample.pick(ys))


class Member(NamedTuple):
    """The data that differ between the members of a group, which one program trains."""

    hparams: train.HParams
    knobs: dict[str, jax.Array]  # arguments of the probe's `sample`, such as {"lag": int[]}


LossOfOutputs = Callable[[jax.Array], jax.Array]  # ys [T, N, H] -> float[]


class Penalty(Protocol):
    """A term added to the loss of a cell: (cell, parameters, xs, loss of ys) -> float[]."""

    def __call__(
        self, cell: sc.Cell, params: Params, xs: jax.Array, loss: LossOfOutputs
    ) -> jax.Array:
        """Compute the penalty."""
        ...


@dataclasses.dataclass(frozen=True)
class Omega:
    """The regulariser of Pascanu et al. (2013): gradients keep their norm back in time."""

    weight: float  # alpha
    form: str = "paper"

    def __call__(
        self, cell: sc.Cell, params: Params, xs: jax.Array, loss: LossOfOutputs
    ) -> jax.Array:
        """Return the weighted `seqcells.remedies.omega`."""
        return self.weight * sc.remedies.omega(cell, params, xs, loss, form=self.form)


@dataclasses.dataclass(frozen=True)
class Flossing:
    """Gradient flossing (Engelken 2023): pulls the leading Lyapunov exponents to 0."""

    weight: float
    k: int  # the number of exponents

    def __call__(
        self, cell: sc.Cell, params: Params, xs: jax.Array, loss: LossOfOutputs
    ) -> jax.Array:
        """Return the weighted `seqcells.remedies.flossing`."""
        return self.weight * sc.remedies.flossing(cell, params, xs, self.k)


@dataclasses.dataclass(frozen=True)
class Task:
    """A model and a probe, as a loss for `seqcells.train`; equal tasks compile once.

    The penalty is part of the loss, never of a score.
    """

    net: Net
    probe: probes.Probe
    batch_size: int
    penalty: Penalty | None = None

    @property
    def reader(self) -> Reader:
        """The net with a readout as wide as the probe's answers."""
        return Reader(self.net, self.probe.output_size)

    def __call__(
        self, params: ReaderParams, key: jax.Array, member: Member
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the loss of a fresh batch, and the measure of its success."""
        sample = self.probe.sample(key, self.batch_size, **member.knobs)
        score = self._score(params, sample)
        metrics = {"measure": getattr(score, self.probe.success.measure)}
        if self.penalty is None:
            return score.loss, metrics
        loss = functools.partial(self._loss, params, sample)
        return score.loss + self.penalty(self.cell, params.cell, sample.xs, loss), metrics

    @property
    def cell(self) -> sc.Cell:
        """The cell; raises if the net is a layer."""
        if isinstance(self.net, sc.Layer):
            raise TypeError(f"cell: expected a Cell, got the layer {self.net!r}")
        return self.net

    def _score(self, params: ReaderParams, sample: probes.Sample) -> probes.Score:
        return self.probe.score(self.reader(params, sample), sample.targets)

    def _loss(self, params: ReaderParams, sample: probes.Sample, ys: jax.Array) -> jax.Array:
        return self.probe.score(self.reader.read(params, sample.pick(ys)), sample.targets).loss

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
        """Return the mean over `size` samples of ||dL/dh|| by lag, float[T].

        L is the loss of one sample.
        """
        sample = self.probe.sample(key, size, **member.knobs)

        def loss(ys: jax.Array) -> jax.Array:
            return size * self._loss(params, sample, ys)

        norms = sc.diagnostics.gradient_by_lag(self.cell, params.cell, sample.xs, loss)
        return jnp.mean(norms, axis=1)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """AdamW whose learning rate falls from the member's to 0, as half a cosine over all steps."""

    steps: int

    def __call__(self, member: Member) -> optax.GradientTransformation:
        """Return the transformation."""
        rate = optax.cosine_decay_schedule(1.0, self.steps)

        def schedule(count: jax.Array) -> jax.Array:
            return jnp.asarray(member.hparams.learning_rate * rate(count))

        return train.adamw(member.hparams._replace(learning_rate=schedule))


def optimizer(member: Member) -> optax.GradientTransformation:
    """Return AdamW with the member's hyperparameters."""
    return train.adamw(member.hparams)
