"""The base class of layers: composed models, run over all steps or over one by the same code."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Cell
from seqcells._model import Model, known_shapes, leading, shapes_of, start_carry
from seqcells._trees import over
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params, PyTree

if TYPE_CHECKING:
    from seqcells.engines import Engine


class Start(NamedTuple):
    """The carries that sequences start from; both have the structure of the model's carry."""

    carry: Carry  # before the first step
    fresh: Carry  # after a reset


class Time(abc.ABC):
    """The steps that a layer runs over: all of them (`unroll`) or one (`step`).

    Arrays are [T, *B, ...] or [*B, ...]. A layer works on trailing axes, so the same code serves
    both.
    """

    def run(
        self, model: Model, params: Params, xs: Inputs, start: Start, key: jax.Array | None
    ) -> tuple[Carry, Outputs]:
        """Run a cell or a layer that is part of a layer."""
        if isinstance(model, Cell):
            return self.cell(model, params, xs, start, key)
        if isinstance(model, Layer):
            return model.run(params, xs, start, self, key)
        raise TypeError(f"model: expected a Cell or a Layer as part of a layer, got {model}")

    @abc.abstractmethod
    def cell(
        self,
        cell: Cell,
        params: Params,
        xs: Inputs,
        start: Start,
        key: jax.Array | None,
        *,
        reverse: bool = False,
        engine: Engine | None = None,
    ) -> tuple[Carry, Outputs]:
        """Run a cell; with `reverse` it reads in the direction opposite to its enclosing layer."""

    @abc.abstractmethod
    def each(self, function: Callable[[Inputs], Outputs], xs: Inputs) -> Outputs:
        """Call a function of one step's x [*B, ...]."""

    @abc.abstractmethod
    def delay(self, xs: jax.Array, start: Start) -> tuple[jax.Array, jax.Array]:
        """Put in the place of each step the one that was read before it.

        Args:
            xs: the steps [T, *B, ...] or [*B, ...], finite at padding.
            start: what stands before the first step, and before one after a reset, [*B, ...], in
                the dtype of xs.

        Returns:
            The last step that was read, [*B, ...]; and the delayed steps, as xs.
        """

    @abc.abstractmethod
    def silence(self, tree: PyTree) -> PyTree:
        """Set padded steps to zero."""


@dataclasses.dataclass(frozen=True)
class OneStep(Time):
    """One step, without padding.

    Attributes:
        fresh: bool[*B], True where a sequence starts by a reset; None where none does.
        whole: whether the step is the whole sequence, so that reading in reverse is possible too.
    """

    fresh: jax.Array | None = None
    whole: bool = False

    def cell(
        self,
        cell: Cell,
        params: Params,
        xs: Inputs,
        start: Start,
        key: jax.Array | None,
        *,
        reverse: bool = False,
        engine: Engine | None = None,
    ) -> tuple[Carry, Outputs]:
        """Take one step of a cell."""
        if reverse and not self.whole:
            raise ValueError(
                f"step: expected a model that reads forward, got one whose {cell} reads each "
                "sequence from its end, which a single step cannot do; call unroll"
            )
        fresh = over(self.fresh, leading(cell, xs))
        return cell.resolve(xs).advance(params, start.carry, xs, fresh, key)

    def each(self, function: Callable[[Inputs], Outputs], xs: Inputs) -> Outputs:
        """Call the function."""
        return function(xs)

    def delay(self, xs: jax.Array, start: Start) -> tuple[jax.Array, jax.Array]:
        """Return the step, and the one before."""
        return xs, start.carry

    def silence(self, tree: PyTree) -> PyTree:
        """Return the tree: there is no padding."""
        return tree


class Layer(Model):
    """A composition of models, or a function of each step, with parameters and a carry.

    A subclass is a frozen dataclass with `init`, `init_carry` and `run`.
    """

    @abc.abstractmethod
    def run(
        self, params: Params, xs: Inputs, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Carry, Outputs]:
        """Run the layer over all steps, or over one.

        Values at padding may be NaN and must not reach outputs or gradients; outputs there must be
        zero. `time.run` ensures this for the parts; use `time.silence` for other arrays.

        Args:
            params: the layer's parameters.
            xs: the inputs, [T, *B, ...] or [*B, ...].
            start: the carry before the first step, and the carry after a reset.
            time: runs the parts of the layer, `time.run(part, params, xs, start, key)`.
            key: one random key for noise; None for evaluation.

        Returns:
            The carry at the end, and the outputs with the leading axes of xs.
        """

    def advance(
        self,
        params: Params,
        carry: Carry,
        x: Inputs,
        fresh: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, Outputs]:
        """Take one step, after resets and checks."""
        return self.run(params, x, Start(carry, carry), OneStep(fresh), key)

    def output_size(self, input_size: InputSize) -> int:
        """Return the number of features of ys for inputs with `input_size` features."""
        x, params = self.zero_input(input_size), known_shapes(self, input_size)
        return output_shapes(self, x, params).shape[-1]


def output_shapes(model: Model, x: Inputs, params: Params) -> Outputs:
    """Return the shapes and dtypes of a model's output for one step's input x [*B, ...]."""
    return shapes_of(_first_output, model, x, params)


def _first_output(model: Model, x: Inputs, params: Params) -> Outputs:
    start = start_carry(model.resolve(x), x, params)
    return OneStep(whole=True).run(model, params, x, Start(start, start), None)[1]


def zeros_after(model: Model, x: Inputs, y: Outputs) -> Outputs:
    """Make zeros shaped like a model's output y and sharded like its input x [*B, ...]."""
    leaf, batch = jax.tree.leaves(x)[0], len(leading(model, x))
    rows = jnp.sum(leaf, axis=tuple(range(batch, leaf.ndim)))  # [*B]

    def zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
        own = jnp.zeros_like(rows, dtype=shape.dtype).reshape(
            *rows.shape, *[1] * (len(shape.shape) - batch)
        )
        return jnp.broadcast_to(own, shape.shape)

    return jax.tree.map(zeros, y)
