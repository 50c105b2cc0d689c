"""Haiku: GRU, LSTM and VanillaRNN, alone or in a DeepRNN.

Arrays are nested as `hk.transform(...).init` nests them: {"gru": {"w_i": ...}}. The modules of a
Stack are named in order, by kind: "gru", "gru_1", "lstm/linear"; a `Recurrent(reverse=True)` is
`hk.dynamic_unroll(..., reverse=True)`. There is no bidirectional module.

z is the fraction that is written, as here. GRU resets before the product and has one bias:
`GRU(reset_after=False, bias="single")`. VanillaRNN is ReLU, `RNN(activation="relu")`; its two
biases are added by `load`, and `dump` leaves the second at zero. LSTM adds 1 to the forget gate's
bias whenever it runs, so `load` adds it and `dump` takes it off: the one conversion that rounds.
"""

from __future__ import annotations

from typing import Any

from seqcells._cell import Cell
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Join, Table, slots
from seqcells.interop._walk import CellOrLayer, Leaf, Rules

_NAMES = {GRU: "gru", LSTM: "lstm", RNN: "vanilla_rnn"}
_GRU = Table("haiku.GRU", slots({"/w_i": "w_ih", "/w_h": "w_hh"}, {"/b": "b_ih"}, "zrn"))
_LSTM = Table(
    "haiku.LSTM",
    slots({"x": "w_ih", "h": "w_hh"}, {"/linear/b": "b"}, "igfo"),
    (Join("/linear/w", ("x", "h"), axis=0),),
    shifted="f",
)
_MATRICES = {"/linear/w": "w_ih", "/linear_1/w": "w_hh"}
_RNN = Table("haiku.VanillaRNN", slots(_MATRICES, {"/linear/b": "b", "/linear_1/b": "b"}, "h"))
_RNN_ONE = Table("haiku.VanillaRNN(double_bias=False)", slots(_MATRICES, {"/linear/b": "b"}, "h"))


def load(params: Any, cell_or_layer: CellOrLayer) -> Any:
    """Make parameters of Haiku's.

    Args:
        params: {module: {name: array}}; "gru" -> "w_i" is float[D, 3H].
        cell_or_layer: a cell, a `Recurrent` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: where no weights make the two equal, or on a wrong name, shape or dtype.
    """
    return _form.load(_FORM, params, cell_or_layer)


def dump(cell_or_layer: CellOrLayer, params: Any, *, like: Any = None) -> dict[str, Any]:
    """Make Haiku's parameters of ours.

    Args:
        cell_or_layer: as in `load`.
        params: its parameters.
        like: Haiku's parameters whose names to follow, where there is a
            `VanillaRNN(double_bias=False)`.

    Returns:
        {module: {name: array}}, NumPy arrays.

    Raises:
        ValueError: where no weights make the two equal.
    """
    return _form.dump(_FORM, cell_or_layer, params, like)


def _table(cell: Cell, names: Names) -> Table:
    if isinstance(cell, GRU):
        if cell.reset_after:
            raise ValueError(f"reset_after: {_GRU.where} resets before the product, got {cell}")
        return _GRU
    if isinstance(cell, LSTM):
        return _LSTM
    if isinstance(cell, RNN):
        if cell.activation != "relu":
            raise ValueError(f"activation: {_RNN.where} is ReLU, got {cell}")
        two = not names or "/linear_1/b" in names
        return _RNN if two else _RNN_ONE
    raise _form.no_such("haiku", cell, "GRU, LSTM and VanillaRNN")


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    counts: dict[str, int] = {}
    made = []
    for leaf in leaves:
        kind = _NAMES.get(type(leaf.cell), "")
        counts[kind] = counts.get(kind, 0) + 1
        made.append(f"{kind}_{counts[kind] - 1}{{}}" if counts[kind] > 1 else f"{kind}{{}}")
    return made


def _nest(name: str) -> tuple[str, str]:
    module, _, last = name.rpartition("/")
    return module, last


_FORM = Form(Rules("haiku", merges=()), _table, _place, nest=_nest)
