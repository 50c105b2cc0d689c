"""Flax NNX: GRUCell, LSTMCell, OptimizedLSTMCell and SimpleCell, RNN and Bidirectional.

Arrays are nested as `nnx.to_pure_dict(nnx.state(module, nnx.Param))` nests them; what `dump` gives
goes back by `nnx.replace_by_pure_dict(state, arrays)`. A layer is `nnx.RNN` (its cell is under
"cell"), `nnx.Bidirectional` (under "forward_rnn" and "backward_rnn"), a Stack is `nnx.Sequential`
("layers", then 0, 1, ...).

z keeps the old value there, so its signs are turned. GRUCell has no recurrent bias at all, whatever
its docstring prints as b_hn: `dump` raises unless ours is zero, so train `GRU(bias="single")`. The
carry of an LSTM is (c, h) there.
"""

from __future__ import annotations

from typing import Any

from seqcells._cell import Cell
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Slot, Table, slots
from seqcells.interop._walk import CellOrLayer, Leaf, Rules

_WEIGHTS = {"dense_i/kernel": "w_ih", "dense_h/kernel": "w_hh"}
_GRU = Table("flax.nnx.GRUCell", slots(_WEIGHTS, {"dense_i/bias": "b_ih"}, "rzn"), negated="z")
_RNN = Table("flax.nnx.SimpleCell", slots(_WEIGHTS, {"dense_i/bias": "b"}, "h"))
_OPTIMIZED = Table("flax.nnx.OptimizedLSTMCell", slots(_WEIGHTS, {"dense_h/bias": "b"}, "ifgo"))
_LSTM = Table(
    "flax.nnx.LSTMCell",
    (
        *(Slot(f"{name}/kernel", "w_ih", name[1]) for name in ("ii", "if_", "ig", "io")),
        *(Slot(f"h{g}/kernel", "w_hh", g) for g in "ifgo"),
        *(Slot(f"h{g}/bias", "b", g) for g in "ifgo"),
    ),
)


def load(state: Any, cell_or_layer: CellOrLayer) -> Any:
    """Make parameters of a module's state.

    Args:
        state: nested dicts; "dense_i" -> "kernel" is float[D, 3H].
        cell_or_layer: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: where no weights make the two equal, or on a wrong name, shape or dtype.
    """
    return _form.load(_FORM, state, cell_or_layer)


def dump(cell_or_layer: CellOrLayer, params: Any, *, like: Any = None) -> dict[Any, Any]:
    """Make a module's state of parameters.

    Args:
        cell_or_layer: as in `load`.
        params: its parameters.
        like: a state whose names to follow, where a cell is to become an `nnx.RNN`, or an LSTM an
            OptimizedLSTMCell.

    Returns:
        Nested dicts of NumPy arrays.

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
        return _OPTIMIZED if "dense_h/kernel" in names else _LSTM
    if isinstance(cell, RNN):
        return _RNN
    raise _form.no_such("flax.nnx", cell, "GRU, LSTM and RNN")


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Where a cell stands: bare cells of a Stack are given the nnx.RNN that they need there."""
    if leaves[0].bare and leaves[0].layer is None:
        return ["cell/{}" if any(name.startswith("cell/") for name in names) else "{}"]
    return [
        ("" if leaf.layer is None else f"layers/{leaf.layer}/")
        + (f"{leaf.way}_rnn/cell/{{}}" if leaf.way else "cell/{}")
        for leaf in leaves
    ]


def _nest(name: str) -> list[Any]:
    return [int(key) if key.isdigit() else key for key in name.split("/")]


_FORM = Form(Rules("flax.nnx"), _table, _place, nest=_nest)
