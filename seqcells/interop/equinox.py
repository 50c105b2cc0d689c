"""Equinox: GRUCell and LSTMCell, as `jax.tree_util` names the arrays of a module.

`{jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in
jax.tree_util.tree_leaves_with_path(eqx.filter(cell, eqx.is_array))}` makes the dict that is read
here. Equinox has no layers: a Bidirectional or a Stack is a tuple of cells (of tuples), whose
arrays are "0.weight_ih", or "0.1.weight_ih" for layer 0's backward cell.

z keeps the old value there, so its signs are turned; matrices stand as [out, in]. GRUCell has a
recurrent bias for the candidate alone, `bias_n`: `dump` raises unless those of r and z are zero.
"""

from __future__ import annotations

from typing import Any

from seqcells._cell import Cell
from seqcells.cells import GRU, LSTM
from seqcells.interop import _form
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Slot, Table, slots
from seqcells.interop._walk import CellOrLayer, Leaf, Rules
from seqcells.layers import Both

_WEIGHTS = {"weight_ih": "w_ih", "weight_hh": "w_hh"}
_GRU = Table(
    "equinox.nn.GRUCell",
    (*slots(_WEIGHTS, {"bias": "b_ih"}, "rzn"), Slot("bias_n", "b_hh", "n")),
    negated="z",
    transposed=True,
    bias_free=True,
)
_LSTM = Table(
    "equinox.nn.LSTMCell", slots(_WEIGHTS, {"bias": "b"}, "ifgo"), transposed=True, bias_free=True
)


def load(arrays: Any, cell_or_layer: CellOrLayer) -> Any:
    """Make parameters of a module's arrays.

    Args:
        arrays: {name: array}; "weight_ih" is float[3H, D].
        cell_or_layer: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: where no weights make the two equal, or on a wrong name, shape or dtype.
    """
    return _form.load(_FORM, arrays, cell_or_layer)


def dump(cell_or_layer: CellOrLayer, params: Any, *, like: Any = None) -> dict[str, Any]:
    """Make a module's arrays of parameters.

    Args:
        cell_or_layer: as in `load`.
        params: its parameters.
        like: a dict whose order of names to follow.

    Returns:
        {name: array}, NumPy arrays.

    Raises:
        ValueError: where no weights make the two equal.
    """
    return _form.dump(_FORM, cell_or_layer, params, like)


def _table(cell: Cell, names: Names) -> Table:
    if isinstance(cell, GRU):
        if not cell.reset_after:
            raise ValueError(f"reset_after: {_GRU.where} resets after the product, got {cell}")
        return _GRU
    if isinstance(cell, LSTM):
        return _LSTM
    raise _form.no_such("equinox", cell, "GRU and LSTM")


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    return [
        ("" if leaf.layer is None else f"{leaf.layer}.")
        + (f"{Both._fields.index(leaf.way)}.{{}}" if leaf.way else "{}")
        for leaf in leaves
    ]


_FORM = Form(Rules("equinox"), _table, _place)
