"""The recurrent product of a cell in the form of the kernels: a square matrix for each gate."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Params, SplitCell
from seqcells._linear import of_all_gates
from seqcells.engines.deferred import products
from seqcells.engines.deferred.shapes import StepShapes


class Product(NamedTuple):
    """The product of the first leaf h of a carry: h @ u[g] + c[g] for each gate g."""

    u: jax.Array  # [G, H, H]
    c: jax.Array | None  # [G, H]


def product(cell: SplitCell, params: Params, dtype: jnp.dtype) -> Product:
    """Return the matrix of each gate in the dtype of the carry, as `mix` multiplies it."""
    w, b = products.declared(params, cell.RECURRENT_WEIGHTS)
    size = w.shape[0]
    gates = w.shape[1] // size
    u = jnp.moveaxis(w.reshape(size, gates, size), 1, 0).astype(dtype)
    b = of_all_gates(b, w.shape[1])
    return Product(u, None if b is None else b.reshape(gates, size).astype(dtype))


def sizes(step: StepShapes) -> tuple[int, int]:
    """Return the number of gates and of units of a product."""
    mixed = jax.tree.leaves(step.mixed)
    return len(mixed), mixed[0].shape[-1]
