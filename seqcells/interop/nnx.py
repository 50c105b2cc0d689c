"""Flax NNX: GRUCell, LSTMCell, OptimizedLSTMCell and SimpleCell, RNN and Bidirectional.

Arrays are nested as `nnx.to_pure_dict(nnx.state(module, nnx.Param))` nests them, and
`nnx.replace_by_pure_dict(state, arrays)` accepts the result of `dump`. A layer is `nnx.RNN` (its
cell is under "cell") or `nnx.Bidirectional` (under "forward_rnn" and "backward_rnn"); a Stack is
`nnx.Sequential` ("layers", then 0, 1, ...).

Flax's z keeps the old value, so the signs of its weights change. GRUCell has no recurrent bias,
although its docstring prints a b_hn: `dump` raises unless ours is zero, so train
`GRU(bias="single")`. The carry of an LSTM is (c, h) there.
"""

from __future__ import annotations

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _arrays, _form
from seqcells.interop._arrays import Nested, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import NO_PROJECTION, RESET_AFTER, Slot, Table, slots
from seqcells.interop._walk import Leaf, Rules

_WEIGHTS = {"dense_i/kernel": "w_ih", "dense_h/kernel": "w_hh"}
_GRU = Table(
    "flax.nnx.GRUCell",
    slots(_WEIGHTS, {"dense_i/bias": "b_ih"}, "rzn"),
    needs=(RESET_AFTER,),
    negated="z",
)
_RNN = Table("flax.nnx.SimpleCell", slots(_WEIGHTS, {"dense_i/bias": "b"}, "h"))
_OPTIMIZED = Table("flax.nnx.OptimizedLSTMCell", slots(_WEIGHTS, {"dense_h/bias": "b"}, "ifgo"))
_LSTM = Table(
    "flax.nnx.LSTMCell",
    (
        *(Slot(f"{name}/kernel", "w_ih", name[1]) for name in ("ii", "if_", "ig", "io")),
        *(Slot(f"h{g}/kernel", "w_hh", g) for g in "ifgo"),
        *(Slot(f"h{g}/bias", "b", g) for g in "ifgo"),
    ),
    needs=(NO_PROJECTION,),
)
_TABLES = {GRU: _GRU, LSTM: _LSTM, RNN: _RNN}


def load(state: Weights, model: Model) -> Params:
    """Convert a module's state to parameters.

    Args:
        state: nested dicts; "dense_i" -> "kernel" is float[D, 3H].
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_FORM, state, model)


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Nested:
    """Convert parameters to a module's state.

    Args:
        model: as in `load`.
        params: its parameters.
        like: a state whose names are used, to export a cell as an `nnx.RNN`, or an LSTM as an
            OptimizedLSTMCell.

    Returns:
        Nested dicts of NumPy arrays.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _arrays.nest(_form.dump(_FORM, model, params, like), _path)


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("flax.nnx", _TABLES, cell, "GRU, LSTM and RNN")
    return _OPTIMIZED if table is _LSTM and "dense_h/kernel" in names else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Return the position of each cell; cells in a Stack are wrapped in nnx.RNN there."""
    if leaves[0].bare and leaves[0].layer is None:
        return ["cell/{}" if any(name.startswith("cell/") for name in names) else "{}"]
    return [
        ("" if leaf.layer is None else f"layers/{leaf.layer}/")
        + (f"{leaf.direction}_rnn/cell/{{}}" if leaf.direction else "cell/{}")
        for leaf in leaves
    ]


def _path(name: str) -> list[str | int]:
    return [int(key) if key.isdigit() else key for key in name.split("/")]


_FORM = Form(Rules("flax.nnx"), _table, _place)
