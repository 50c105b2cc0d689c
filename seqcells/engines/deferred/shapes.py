"""Properties of a step before it runs: its shapes, and whether its derivative is elementwise."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from seqcells._cell import Cell, SplitCell
from seqcells._model import known_shapes
from seqcells._trees import cached_shapes
from seqcells._types import Carry, Drive, Mixed, Params, Shape, Shaped
from seqcells.engines.deferred import slopes


class StepShapes(NamedTuple):
    """The shapes of a step's carry, drive and recurrent product."""

    carry: Carry
    drive: Drive
    mixed: Mixed


def split(cell: Cell) -> SplitCell:
    """Return the cell, or raise a TypeError if it is not a `SplitCell`."""
    if not isinstance(cell, SplitCell):
        raise TypeError(f"cell: expected a SplitCell, got {cell}; use engine=Scan()")
    return cell


def step_shapes(cell: SplitCell, xs: Shaped) -> StepShapes:
    """Return the shapes of one step for inputs [T, *B, ...] or their shape."""
    return _step_shapes(cell, xs.shape[1:], xs.dtype)


def slope_shapes(cell: SplitCell, xs: Shaped) -> list[slopes.Row]:
    """Return the shapes of the slopes of one step, as `slopes.distinct` returns them."""
    return _slope_shapes(cell, xs.shape[1:], xs.dtype)


def twins(cell: SplitCell, xs: Shaped) -> list[int]:
    """Return `slopes.twins` of a cell's gate, for its carry, drive and mixed."""
    return _twins(cell, xs.shape[1:], xs.dtype)


def why_not(cell: SplitCell, xs: Shaped) -> str | None:
    """Return why the derivative of a step is not elementwise slopes, or None."""
    if not hasattr(xs, "shape") or cell.x_ndim == 0:
        return "its inputs are not one array of features"
    if any(map(export.is_symbolic_dim, xs.shape)):
        return "its schedule depends on the sizes of xs, and some are symbolic"
    return _why_not(cell, xs.shape[1:], xs.dtype)


@cached_shapes(maxsize=256)
def _step_shapes(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> StepShapes:
    x = jax.ShapeDtypeStruct(shape, dtype)

    def step(params: Params, x: jax.Array) -> StepShapes:
        resolved = cell.resolve(x)
        carry = resolved.init_carry(x, params)
        return StepShapes(carry, resolved.project(params, x), resolved.mix(params, carry))

    return jax.eval_shape(step, known_shapes(cell, cell.input_size(x)), x)


@cached_shapes(maxsize=256)
def _slope_shapes(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> list[slopes.Row]:
    step = _step_shapes(cell, shape, dtype)
    return jax.eval_shape(lambda step: slopes.distinct(cell.gate, *step), step)


@cached_shapes(maxsize=256)
def _twins(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> list[int]:
    return slopes.twins(cell.gate, *_step_shapes(cell, shape, dtype))


@cached_shapes(maxsize=256)
def _why_not(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> str | None:
    step = _step_shapes(cell, shape, dtype)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(step)):
        return "its carry or its gates are not real numbers"
    try:
        slopes.dependence(cell.gate, *step)
    except slopes.NotElementwiseError as error:
        return f"its gate is not elementwise: it has {error}"
    return None
