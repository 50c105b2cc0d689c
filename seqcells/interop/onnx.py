"""ONNX: the operators GRU, LSTM and RNN, by the names of a node's inputs.

W [directions, G*H, D], R [directions, G*H, H], B [directions, 2*G*H] and, for an LSTM with
peepholes, P [directions, 3*H]. A cell or a layer is one node; a Stack is one node for each layer:
"0.W", "1.W". `model` writes a whole net with its other layers.

ONNX's z keeps the old value, so the signs of its weights change; gates are in the order z|r|h and
i|o|f|c. Weights do not include the node's attributes: `attributes` returns them.
`linear_before_reset` is 1 for `GRU(reset_after=True)` and 0 for False. LSTM and RNN have two
biases: `load` adds them, and `dump` sets the second to zero. The two directions of an RNN may have
different activations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import InputSize, Params
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form, _onnx_file, _walk
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import NO_PROJECTION, TANH_OR_RELU, Join, Need, Slot, Table, slots
from seqcells.interop._walk import Leaf, Rules

if TYPE_CHECKING:
    import onnx

Attributes = dict[str, int | str | list[str]]  # attributes of a node, by name

_WEIGHTS = {"W": "w_ih", "R": "w_hh"}
_BIAS = (Join("B", ("Wb", "Rb"), axis=-1),)
_RULES = Rules("onnx", ("concat",), alike="layer", unlike=("activation",))


def _one_bias(where: str, order: str, needs: tuple[Need, ...] = ()) -> Table:
    """Make the table of a cell with one bias here and two in ONNX."""
    two = slots(_WEIGHTS, {"Wb": "b", "Rb": "b"}, order)
    return Table(where, two, _BIAS, needs, transposed=True, bias_free=True)


_GRU = Table(
    "onnx.GRU",
    slots(_WEIGHTS, {"Wb": "b_ih", "Rb": "b_hh"}, "zrn"),
    _BIAS,
    negated="z",
    transposed=True,
    bias_free=True,
)
_LSTM, _RNN = (
    _one_bias("onnx.LSTM", "iofg", (NO_PROJECTION,)),
    _one_bias("onnx.RNN", "h", (TANH_OR_RELU,)),
)
_PEEPHOLES = _LSTM._replace(slots=(*_LSTM.slots, Slot("P", "p", "iof")))
_TABLES = {GRU: _GRU, LSTM: _LSTM, RNN: _RNN}


def load(inputs: Weights, model: Model) -> Params:
    """Convert a node's inputs to parameters.

    Args:
        inputs: {"W": array, "R": array, "B": array, "P": array}.
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_FORM, inputs, model)


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Arrays:
    """Convert parameters to a node's inputs.

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


def attributes(model: Model) -> list[Attributes]:
    """Return the attributes with which each node computes the same as the layer.

    Args:
        model: as in `load`.

    Returns:
        One dict for each node; its operator is "op_type".

    Raises:
        ValueError: if ONNX has no such layer.

    >>> import seqcells as sc
    >>> sc.interop.onnx.attributes(sc.GRU(4))
    [{'op_type': 'GRU', 'hidden_size': 4, 'direction': 'forward', 'linear_before_reset': 1}]
    """
    nodes: list[list[Leaf]] = []
    for leaf in _walk.leaves(_RULES, model):
        if leaf.direction == "backward":
            nodes[-1].append(leaf)  # two directions are one node
        else:
            nodes.append([leaf])
    return [_node(*leaves) for leaves in nodes]


def model(
    net: Model, params: Params, input_size: InputSize, *, lengths: bool = False
) -> onnx.ModelProto:
    """Return a whole net as one ONNX file, for evaluation; `onnx.save(file, path)` writes it.

    Its input is "xs", float[T, B, D], or int64[T, B] if the net reads symbols, for any T and B. Its
    outputs are "ys" float[T, B, H] and the last carries "carry.0", "carry.1", ..., each
    float[directions, B, H], of every recurrent layer in order; an LSTM has two, h and c.

    Args:
        net: a cell that ONNX has (GRU, LSTM or RNN), or a net of such cells with `Stack`,
            `Residual`, `Recurrent`, `Bidirectional`, `Dense`, `Norm`, `Embed` and `Dropout`.
        params: its parameters, float32.
        input_size: the input size with which they were made.
        lengths: whether the file has a second input "lengths", int32[B]: steps from there on are
            padding, with outputs of zero.

    Returns:
        An `onnx.ModelProto`, checked by `onnx.checker`.

    Raises:
        ValueError: if ONNX has no such layer, or parameters are not float32.
        ModuleNotFoundError: if the package onnx is not installed.
    """
    return _onnx_file.write(
        net, params, input_size, lengths=lengths, dump=dump, attributes=attributes
    )


def _node(leaf: Leaf, *backward: Leaf) -> Attributes:
    cell = leaf.cell
    operator = _table(cell, frozenset()).where.split(".")[1]
    assert isinstance(cell, GRU | LSTM | RNN)
    node: Attributes = {"op_type": operator, "hidden_size": cell.hidden_size}
    one_way = "reverse" if leaf.reverse else "forward"
    node["direction"] = "bidirectional" if leaf.direction else one_way
    if isinstance(cell, GRU):
        node["linear_before_reset"] = int(cell.reset_after)
    cells = [part.cell for part in (leaf, *backward)]
    activations = [part.activation.capitalize() for part in cells if isinstance(part, RNN)]
    if activations:
        node["activations"] = activations
    return node


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("onnx", _TABLES, cell, "GRU, LSTM and RNN")
    return _PEEPHOLES if isinstance(cell, LSTM) and cell.peepholes else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Return the position of each cell; `_pack` stacks the parts of the two directions."""
    return [
        ("{}" if leaf.layer is None else f"{leaf.layer}.{{}}") + f"/{leaf.direction}"
        for leaf in leaves
    ]


def _pack(parts: Arrays) -> Arrays:
    """Stack directions on a first axis: "W/forward" and "W/backward" become W."""
    groups: dict[str, list[np.ndarray]] = {}
    for name, array in parts.items():
        groups.setdefault(name.rpartition("/")[0], []).append(array)
    return {name: np.stack(arrays) for name, arrays in groups.items()}


def _unpack(arrays: Arrays) -> Arrays:
    """Undo `_pack`."""
    directions = {1: ("",), 2: ("forward", "backward")}
    return {
        f"{name}/{direction}": part
        for name, array in arrays.items()
        for direction, part in zip(directions[len(array)], array, strict=True)
    }


_FORM = Form(_RULES, _table, _place, pack=_pack, unpack=_unpack)
