"""The cells that kernels know: where each keeps the matrices of its one product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Cell, Params
from seqcells.cells import GRU, LSTM, MGU, RNN
from seqcells.cells._dense import DenseCell


class Product(NamedTuple):
    """What the first leaf of a carry is multiplied by: h @ u[g] + c[g] for each gate g."""

    u: jax.Array  # [G, H, H]
    c: jax.Array | None  # [G, H]


# The matrices [H, G*H] and the biases [G*H] that `mix` adds to what it multiplies, or None.
KNOWN: dict[type[DenseCell], Callable[[Any], tuple[jax.Array, jax.Array | None]]] = {
    GRU: lambda params: (params.w_hh, params.b_hh),
    LSTM: lambda params: (params.w_hh, None),
    MGU: lambda params: (params.w_hh, params.b_hh),
    RNN: lambda params: (params.w_hh, None),
}


def why_not(cell: Cell) -> str | None:
    """Say why no kernel knows the cell, or return None."""
    if type(cell) in KNOWN:
        return None
    names = ", ".join(sorted(kind.__name__ for kind in KNOWN))
    return f"it knows {names}, and no {type(cell).__name__}"


def product(cell: Cell, params: Params, dtype: Any) -> Product:
    """Return the matrices gate by gate, in the dtype of the carry, as `mix` multiplies them."""
    assert isinstance(cell, DenseCell)
    w, b = KNOWN[type(cell)](params)
    size, gates = cell.hidden_size, len(cell.GATES)
    u = jnp.moveaxis(w.reshape(size, gates, size), 1, 0).astype(dtype)
    return Product(u, None if b is None else b.reshape(gates, size).astype(dtype))
