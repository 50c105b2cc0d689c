"""How much a scan stores for its derivative, estimated from the shapes of one step."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from seqcells._cell import Cell
from seqcells._model import known_shapes, leading
from seqcells._trees import cached_shapes
from seqcells._types import Inputs, Params, Shape, TreeDef


def step_bytes(cell: Cell, xs: Inputs) -> int | None:
    """Return the bytes that one step stores for its derivative, for inputs [T, *B, ...].

    Parameters are not counted, because all steps share them. None if this cannot be known, because
    the cell makes no parameters by itself or has no derivative; and if a step has effects, such as
    a print, which would run again if the step were repeated.
    """
    leaves, structure = jax.tree.flatten(xs)
    return _step_bytes(cell, structure, *((a.shape[1:], jnp.dtype(a.dtype)) for a in leaves))


@cached_shapes(maxsize=256)
def _step_bytes(cell: Cell, structure: TreeDef, *leaves: tuple[Shape, jnp.dtype]) -> int | None:
    x = structure.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    def residuals(x: Inputs) -> tuple[Params, list[jax.Array]]:
        resolved, shapes = cell.resolve(x), known_shapes(cell, cell.input_size(x))
        params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        carry = resolved.init_carry(x, params)
        return params, jax.tree.leaves(jax.vjp(resolved.advance, params, carry, x)[1])

    try:
        traced, (params, kept) = jax.make_jaxpr(residuals, return_shape=True)(x)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
    if traced.effects:
        return None
    batch, shared = leading(cell, x), {leaf.shape for leaf in jax.tree.leaves(params)}
    own = (a for a in kept if a.shape not in shared and a.shape[: len(batch)] == batch)
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in own)
