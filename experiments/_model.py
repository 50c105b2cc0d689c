"""The model of the studies: a cell that reads the sequence, and a linear readout at its end."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

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


@dataclasses.dataclass(frozen=True)
class Task:
    """A model and a probe; as a loss for `seqcells.train` it is a value, and compiles once."""

    reader: Reader
    probe: probes.Probe
    batch_size: int

    def __call__(
        self, params: ReaderParams, key: jax.Array, member: Member
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Score a fresh batch: the loss, and what else a score tells beside it."""
        score = self.score(params, key, member, self.batch_size)
        return score.loss, {"accuracy": score.accuracy, "exact": score.exact}

    def score(
        self, params: ReaderParams, key: jax.Array, member: Member, size: int
    ) -> probes.Score:
        """Score `size` fresh samples."""
        sample = self.probe.sample(key, size, **member.knobs)
        return self.probe.score(self.reader(params, sample), sample.targets)

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
            answers = self.reader.read(params, sample.pick(ys))
            return size * self.probe.score(answers, sample.targets).loss

        norms = sc.diagnostics.gradient_by_lag(self.reader.cell, params.cell, sample.xs, loss)
        return jnp.mean(norms, axis=1)


def optimizer(member: Member) -> Any:
    """AdamW with the member's hyperparameters."""
    return train.adamw(member.hparams)
