"""Tables of layers and parameters, as people know them from Keras."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell, param_shapes
from seqcells.layers import Layer, call


def param_count(params: Any) -> int:
    """Count the numbers in a tree of arrays (or of `jax.ShapeDtypeStruct`).

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.GRU(64).init(jax.random.key(0), 1))
    12864
    """
    if isinstance(params, (Cell, Layer)):
        raise TypeError(f"params: expected a tree of arrays, got {params}; see seqcells.summary")
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))


def summary(cell: Cell | Layer, input_size: int) -> str:
    """Return a table of the layer, its output shape and its parameters.

    Args:
        cell: a cell or a layer.
        input_size: features of the input, at least 0.

    Returns:
        A table of text; shapes hold T for time and B for the batch.

    >>> import seqcells as sc
    >>> print(sc.summary(sc.GRU(64), input_size=1))
    Layer   Output shape  Parameters
    --------------------------------
    GRU     (T, B, 64)        12,864
      w_ih  (1, 192)             192
      w_hh  (64, 192)         12,288
      b_ih  (192,)               192
      b_hh  (192,)               192
    --------------------------------
    Total parameters: 12,864 (50.2 KiB)
    """
    _check.instance("cell", cell, (Cell, Layer), "GRU(64)")
    input_size = _check.size("input_size", input_size, least=0)
    params = param_shapes(cell, input_size)
    rows = [(type(cell).__name__, _output_shape(cell, params, input_size), param_count(params))]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
        rows.append((f"  {name}", str(tuple(leaf.shape)), param_count(leaf)))
    return _table(rows, _kib(params))


def _output_shape(cell: Cell | Layer, params: Any, input_size: int) -> str:
    xs = jax.ShapeDtypeStruct((1, 1, input_size), jnp.float32)
    _, ys = jax.eval_shape(lambda params, xs: call(cell, params, xs), params, xs)
    shapes = [f"(T, B, {', '.join(map(str, leaf.shape[2:]))})" for leaf in jax.tree.leaves(ys)]
    return ", ".join(shapes)


def _kib(params: Any) -> float:
    leaves = jax.tree.leaves(params)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves) / 1024


def _table(rows: list[tuple[str, str, int]], kib: float) -> str:
    head = ("Layer", "Output shape", "Parameters")
    cells = [head, *((name, shape, f"{count:,}") for name, shape, count in rows)]
    wide = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = [f"{a:<{wide[0] + 2}}{b:<{wide[1] + 2}}{c:>{wide[2]}}".rstrip() for a, b, c in cells]
    rule = "-" * (sum(wide) + 4)
    total = f"Total parameters: {rows[0][2]:,} ({kib:,.1f} KiB)"
    return "\n".join([lines[0], rule, *lines[1:], rule, total])
