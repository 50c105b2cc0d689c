"""ONNX: the operators GRU, LSTM and RNN, by the names of a node's inputs.

W [directions, G*H, D], R [directions, G*H, H], B [directions, 2*G*H] and, of an LSTM with
peepholes, P [directions, 3*H]. A cell or a layer is one node, a Stack a node a layer: "0.W", "1.W".

z keeps the old value there, so its signs are turned; gates stand in the order z|r|h and i|o|f|c.
The weights do not say the attributes, which `attributes` gives: `linear_before_reset` is 1 for
`GRU(reset_after=True)` and 0 for False. LSTM and RNN have two biases: `load` adds them, and
`dump` leaves the second at zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqcells._cell import Cell
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form, _walk
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Arrays, Join, Slot, Table, slots
from seqcells.interop._walk import CellOrLayer, Leaf, Rules

_WEIGHTS = {"W": "w_ih", "R": "w_hh"}
_BIAS = (Join("B", ("Wb", "Rb"), axis=-1),)
_RULES = Rules("onnx", ("concat",), alike="layer")


def _plain(where: str, order: str) -> Table:
    """A table of a kind that has one bias here and two there."""
    two = slots(_WEIGHTS, {"Wb": "b", "Rb": "b"}, order)
    return Table(where, two, _BIAS, transposed=True, bias_free=True)


_GRU = Table(
    "onnx.GRU",
    slots(_WEIGHTS, {"Wb": "b_ih", "Rb": "b_hh"}, "zrn"),
    _BIAS,
    negated="z",
    transposed=True,
    bias_free=True,
)
_LSTM, _RNN = _plain("onnx.LSTM", "iofg"), _plain("onnx.RNN", "h")
_PEEPHOLES = _LSTM._replace(slots=(*_LSTM.slots, Slot("P", "p", "iof")))


def load(inputs: Any, cell_or_layer: CellOrLayer) -> Any:
    """Make parameters of a node's inputs.

    Args:
        inputs: {"W": array, "R": array, "B": array, "P": array}.
        cell_or_layer: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: where no weights make the two equal, or on a wrong name, shape or dtype.
    """
    return _form.load(_FORM, inputs, cell_or_layer)


def dump(cell_or_layer: CellOrLayer, params: Any, *, like: Any = None) -> dict[str, Any]:
    """Make a node's inputs of parameters.

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


def attributes(cell_or_layer: CellOrLayer) -> list[dict[str, Any]]:
    """Say with what attributes each node computes what the layer does.

    Args:
        cell_or_layer: as in `load`.

    Returns:
        One dict a node, with its operator as "op_type".

    Raises:
        ValueError: where ONNX has no such layer.

    >>> import seqcells as sc
    >>> sc.interop.onnx.attributes(sc.GRU(4))
    [{'op_type': 'GRU', 'hidden_size': 4, 'direction': 'forward', 'linear_before_reset': 1}]
    """
    nodes = []
    for leaf in _walk.leaves(_RULES, cell_or_layer):
        cell: Any = leaf.cell
        table = _table(cell, frozenset())
        if leaf.way == "backward":
            continue  # it is in the node of the forward one
        way = "bidirectional" if leaf.way else "reverse" if leaf.reverse else "forward"
        node = {"op_type": table.where.split(".")[1], "hidden_size": cell.hidden_size}
        node["direction"] = way
        if isinstance(cell, GRU):
            node["linear_before_reset"] = int(cell.reset_after)
        if isinstance(cell, RNN):
            node["activations"] = [cell.activation.capitalize()] * (2 if leaf.way else 1)
        nodes.append(node)
    return nodes


def _table(cell: Cell, names: Names) -> Table:
    if isinstance(cell, GRU):
        return _GRU
    if isinstance(cell, LSTM):
        return _PEEPHOLES if cell.peepholes else _LSTM
    if isinstance(cell, RNN):
        if cell.activation not in ("tanh", "relu"):
            raise ValueError(f"activation: {_RNN.where} has tanh and relu here, got {cell}")
        return _RNN
    raise _form.no_such("onnx", cell, "GRU, LSTM and RNN")


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """One direction's part of an array; `_pack` puts the two together."""
    return [
        ("{}" if leaf.layer is None else f"{leaf.layer}.{{}}") + f"/{leaf.way}" for leaf in leaves
    ]


def _pack(parts: Arrays) -> Arrays:
    """Put directions on a first axis: "W/forward" and "W/backward" make W."""
    groups: dict[str, list[np.ndarray]] = {}
    for name, array in parts.items():
        groups.setdefault(name.rpartition("/")[0], []).append(array)
    return {name: np.stack(arrays) for name, arrays in groups.items()}


def _unpack(arrays: Arrays) -> Arrays:
    """Undo `_pack`."""
    ways = {1: ("",), 2: ("forward", "backward")}
    return {
        f"{name}/{way}": part
        for name, array in arrays.items()
        for way, part in zip(ways[len(array)], array, strict=True)
    }


_FORM = Form(_RULES, _table, _place, pack=_pack, unpack=_unpack)
