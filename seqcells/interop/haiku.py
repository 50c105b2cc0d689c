"""Haiku: GRU, LSTM and VanillaRNN, alone or in a DeepRNN.

Arrays are nested as `hk.transform(...).init` nests them: {"gru": {"w_i": ...}}. The modules of a
Stack are named in order, by kind: "gru", "gru_1", "lstm/linear"; a `Recurrent(reverse=True)` is
`hk.dynamic_unroll(..., reverse=True)`. There is no bidirectional module.

Haiku's z is the fraction that is written, as here. Its GRU resets before the product and has one
bias: `GRU(reset_after=False, bias="single")`. VanillaRNN is `RNN(activation="relu")`; `load` adds
its two biases, and `dump` sets the second to zero. LSTM adds 1 to the forget gate's bias whenever
it runs, so `load` adds 1 and `dump` subtracts it: the only conversion that rounds.
"""

from __future__ import annotations

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _arrays, _form
from seqcells.interop._arrays import Nested, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import RESET_BEFORE, Join, Need, Table, slots
from seqcells.interop._walk import Leaf, Rules

_NAMES = {GRU: "gru", LSTM: "lstm", RNN: "vanilla_rnn"}
_GRU = Table(
    "haiku.GRU",
    slots({"/w_i": "w_ih", "/w_h": "w_hh"}, {"/b": "b_ih"}, "zrn"),
    needs=(RESET_BEFORE,),
)
_LSTM = Table(
    "haiku.LSTM",
    slots({"x": "w_ih", "h": "w_hh"}, {"/linear/b": "b"}, "igfo"),
    (Join("/linear/w", ("x", "h"), axis=0),),
    shifted="f",
)
_MATRICES = {"/linear/w": "w_ih", "/linear_1/w": "w_hh"}
_RNN = Table(
    "haiku.VanillaRNN",
    slots(_MATRICES, {"/linear/b": "b", "/linear_1/b": "b"}, "h"),
    needs=(Need("activation", ("relu",), "is ReLU"),),
)
_RNN_ONE = Table("haiku.VanillaRNN(double_bias=False)", slots(_MATRICES, {"/linear/b": "b"}, "h"))
_TABLES = {GRU: _GRU, LSTM: _LSTM, RNN: _RNN}


def load(params: Weights, model: Model) -> Params:
    """Convert Haiku's parameters to ours.

    Args:
        params: {module: {name: array}}; "gru" -> "w_i" is float[D, 3H].
        model: a cell, a `Recurrent` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_FORM, params, model)


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Nested:
    """Convert parameters to Haiku's.

    Args:
        model: as in `load`.
        params: its parameters.
        like: Haiku's parameters whose names are used, to export an RNN as a
            `VanillaRNN(double_bias=False)`.

    Returns:
        {module: {name: array}}, NumPy arrays.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _arrays.nest(_form.dump(_FORM, model, params, like), _path)


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("haiku", _TABLES, cell, "GRU, LSTM and VanillaRNN")
    return _RNN_ONE if table is _RNN and names and "/linear_1/b" not in names else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    counts: dict[str, int] = {}
    places = []
    for leaf in leaves:
        kind = _NAMES.get(type(leaf.cell), "")
        counts[kind] = counts.get(kind, 0) + 1
        places.append(f"{kind}_{counts[kind] - 1}{{}}" if counts[kind] > 1 else f"{kind}{{}}")
    return places


def _path(name: str) -> tuple[str, str]:
    module, _, last = name.rpartition("/")
    return module, last


_FORM = Form(Rules("haiku", merges=()), _table, _place)
