"""Tables of layers and parameters, as in Keras."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._calls import explained
from seqcells._cell import Cell
from seqcells._layer import Layer, output_shapes
from seqcells._model import Model, param_shapes
from seqcells._types import Inputs, InputSize, Outputs, Params, PyTree
from seqcells.layers import Stack

Row = tuple[str, str, int]  # name, shape of the output or the parameter, number of parameters


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
        A table of text, with rows for each layer of a `Stack`; shapes hold T for time and B for the
        batch.

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
    rows = list(_rows(model, params, model.zero_input(input_size), "", ""))
    return _table(rows, _kib(params))


def _rows(model: Model, params: Params, x: Inputs, number: str, indent: str) -> Iterator[Row]:
    """Yield a row for a model, then one for each of its layers or of its parameters."""
    name = f"{indent}{number}{_label(model)}"
    yield name, _output_shape(output_shapes(model, x, params)), param_count(params)
    indent += "  "
    if isinstance(model, Stack) and not model.skip:
        for i, (layer, own) in enumerate(zip(model.layers, params, strict=True)):
            yield from _rows(layer, own, x, f"{i} ", indent)
            x = output_shapes(layer, x, own)
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
        yield f"{indent}{name}", str(tuple(leaf.shape)), param_count(leaf)


def _label(model: Model) -> str:
    """Return what a model is, such as "Bidirectional(LSTM)"."""
    name, within = type(model).__name__, model.reader
    return name if within is None or isinstance(model, Stack) else f"{name}({_label(within)})"


def _output_shape(ys: Outputs) -> str:
    shapes = (["T", "B", *map(str, leaf.shape)] for leaf in jax.tree.leaves(ys))
    return ", ".join(f"({', '.join(shape)})" for shape in shapes)


def _kib(params: Params) -> float:
    leaves = jax.tree.leaves(params)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves) / 1024


def _table(rows: list[Row], kib: float) -> str:
    head = ("Layer", "Output shape", "Parameters")
    cells = [head, *((name, shape, f"{count:,}") for name, shape, count in rows)]
    wide = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = [f"{a:<{wide[0] + 2}}{b:<{wide[1] + 2}}{c:>{wide[2]}}".rstrip() for a, b, c in cells]
    rule = "-" * (sum(wide) + 4)
    total = f"Total parameters: {rows[0][2]:,} ({kib:,.1f} KiB)"
    return "\n".join([lines[0], rule, *lines[1:], rule, total])
