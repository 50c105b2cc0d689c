"""Equinox: GRUCell and LSTMCell, as `jax.tree_util` names the arrays of a module.

`load` reads a module, or the dictionary of its arrays, `{jax.tree_util.keystr(path, simple=True,
separator="."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(module)}`. Equinox has no
layers: a Bidirectional or a Stack is a tuple of cells (of tuples), whose arrays are
"0.weight_ih", or "0.1.weight_ih" for layer 0's backward cell.

Equinox's z keeps the old value, so the signs of its weights change; matrices are [out, in]. GRUCell
has a recurrent bias only for the candidate, `bias_n`, like `GRU(bias="candidate")`: `dump` raises
unless those of r and z are zero, and `seqcells.interop.fold_biases` adds them to b_ih.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params, PyTree
from seqcells.cells import GRU, LSTM
from seqcells.interop import _form
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import NO_PROJECTION, RESET_AFTER, Slot, Table, slots
from seqcells.interop._walk import Leaf, Rules
from seqcells.layers import Both

_WEIGHTS = {"weight_ih": "w_ih", "weight_hh": "w_hh"}
_GRU = Table(
    "equinox.nn.GRUCell",
    (*slots(_WEIGHTS, {"bias": "b_ih"}, "rzn"), Slot("bias_n", "b_hh", "n")),
    needs=(RESET_AFTER,),
    negated="z",
    transposed=True,
    bias_free=True,
)
_LSTM = Table(
    "equinox.nn.LSTMCell",
    slots(_WEIGHTS, {"bias": "b"}, "ifgo"),
    needs=(NO_PROJECTION,),
    transposed=True,
    bias_free=True,
)
_TABLES = {GRU: _GRU, LSTM: _LSTM}


def load(arrays: Weights | PyTree, model: Model) -> Params:
    """Convert a module's arrays to parameters.

    Args:
        arrays: the module, or {name: array}; "weight_ih" is float[3H, D].
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_FORM, arrays if isinstance(arrays, Mapping) else _named(arrays), model)


def _named(module: PyTree) -> Arrays:
    """Return the arrays of a module by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(module)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Arrays:
    """Convert parameters to a module's arrays.

    Args:
        model: as in `load`.
        params: its parameters.
        like: a dict whose order of names is used.

    Returns:
        {name: array}, NumPy arrays.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _form.dump(_FORM, model, params, like)


def _table(cell: Cell, names: Names) -> Table:
    return _form.select("equinox", _TABLES, cell, "GRU and LSTM")


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    return [
        ("" if leaf.layer is None else f"{leaf.layer}.")
        + (f"{Both._fields.index(leaf.direction)}.{{}}" if leaf.direction else "{}")
        for leaf in leaves
    ]


_FORM = Form(Rules("equinox"), _table, _place)
