"""Tables of layers and parameters, as people know them from Keras."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._calls import explained
from seqcells._cell import Cell
from seqcells._layer import Layer, output_shapes
from seqcells._model import Model, param_shapes
from seqcells._types import InputSize, Params, PyTree


def param_count(params: PyTree) -> int:
    """Count the numbers in a tree of arrays (or of `jax.ShapeDtypeStruct`).

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.GRU(64).init(jax.random.key(0), 1))
    12864
    """
    if isinstance(params, (Cell, Layer)):
        raise TypeError(f"params: expected a tree of arrays, got {params}; see seqcells.summary")
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))


@explained
def summary(model: Model, input_size: InputSize) -> str:
    """Return a table of a cell or layer, its output shape and its parameters.

    Args:
        model: a cell or a layer.
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
    _check.instance("model", model, (Cell, Layer), "GRU(64)")
    if model.x_ndim == 1:
        input_size = jax.tree.map(lambda n: _check.size("input_size", n, least=0), input_size)
    params = param_shapes(model, input_size)
    rows = [(type(model).__name__, _output_shape(model, params, input_size), param_count(params))]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
        rows.append((f"  {name}", str(tuple(leaf.shape)), param_count(leaf)))
    return _table(rows, _kib(params))


def _output_shape(model: Model, params: Params, input_size: InputSize) -> str:
    ys = jax.tree.leaves(output_shapes(model, model.zero_input(input_size), params))
    return ", ".join(f"({', '.join(['T', 'B', *map(str, leaf.shape)])})" for leaf in ys)


def _kib(params: Params) -> float:
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
