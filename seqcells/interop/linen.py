"""Flax Linen: GRUCell, LSTMCell, OptimizedLSTMCell, SimpleCell and MGUCell, RNN and Bidirectional.

Arrays are nested as `module.init` nests them, {"params": {"ir": {"kernel": ...}}}; without "params"
they are read too. A layer is `nn.RNN` (its cell is under "cell"), `nn.Bidirectional` (under
"forward_rnn" and "backward_rnn"), a Stack is `nn.Sequential` ("layers_0", ...).

z keeps the old value there, so its signs are turned. GRUCell has a recurrent bias for the candidate
alone: `dump` raises unless those of r and z are zero. MGUCell's gate keeps with the same f with
which it resets, so no `MGU` equals it; it is read into a `GRU`, whose r is f and whose z is -f, and
so written with `like`. The carry of an LSTM is (c, h) there.
"""

from __future__ import annotations

from typing import Any

from seqcells._cell import Cell
from seqcells.cells import GRU, LSTM, MGU, RNN
from seqcells.interop import _form
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Arrays, Slot, Table
from seqcells.interop._walk import CellOrLayer, Leaf, Rules


def _gatewise(weights: str, biases: str, order: str, field: str) -> tuple[Slot, ...]:
    """Slots of one array a gate: "ir/kernel", "hr/kernel", and biases beside them."""
    return (
        *(Slot(f"i{g}/kernel", "w_ih", g) for g in order),
        *(Slot(f"h{g}/kernel", "w_hh", g) for g in order),
        *(Slot(f"{weights}{g}/bias", field, g) for g in biases),
    )


_GRU = Table(
    "flax.linen.GRUCell",
    (*_gatewise("i", "rzn", "rzn", "b_ih"), Slot("hn/bias", "b_hh", "n")),
    negated="z",
)
_LSTM = Table("flax.linen.LSTMCell", _gatewise("h", "ifgo", "ifgo", "b"))
_RNN = Table(
    "flax.linen.SimpleCell",
    (Slot("i/kernel", "w_ih", "h"), Slot("h/kernel", "w_hh", "h"), Slot("i/bias", "b", "h")),
)
_MGU = Table(
    "flax.linen.MGUCell",
    (
        *(Slot(f"i{f}/kernel", "w_ih", g) for f, g in ("fr", "fz", "nn")),
        *(Slot(f"h{f}/kernel", "w_hh", g) for f, g in ("fr", "fz", "nn")),
        *(Slot(f"i{f}/bias", "b_ih", g) for f, g in ("fr", "fz", "nn")),
        Slot("hn/bias", "b_hh", "n"),
    ),
    negated="z",
)


def load(variables: Any, cell_or_layer: CellOrLayer) -> Any:
    """Make parameters of a module's variables.

    Args:
        variables: {"params": ...}, nested dicts; "ir/kernel" is float[D, H].
        cell_or_layer: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: where no weights make the two equal, or on a wrong name, shape or dtype.
    """
    return _form.load(_FORM, variables, cell_or_layer)


def dump(cell_or_layer: CellOrLayer, params: Any, *, like: Any = None) -> dict[str, Any]:
    """Make a module's variables of parameters.

    Args:
        cell_or_layer: as in `load`.
        params: its parameters.
        like: variables whose names to follow, where a cell is to become an `nn.RNN` or an MGUCell.

    Returns:
        {"params": ...}, nested dicts of NumPy arrays.

    Raises:
        ValueError: where no weights make the two equal.
    """
    return _form.dump(_FORM, cell_or_layer, params, like)


def _table(cell: Cell, names: Names) -> Table:
    if isinstance(cell, MGU):
        raise ValueError(
            f"cell_or_layer: flax.linen.MGUCell resets with the f with which it keeps, {cell} with "
            f"the f with which it writes, so no weights make the two equal; GRU({cell.hidden_size})"
            f" reads its arrays"
        )
    if isinstance(cell, GRU):
        if not cell.reset_after:
            raise ValueError(
                f"reset_after: flax.linen.GRUCell resets after the product, got {cell}"
            )
        return _MGU if "if/kernel" in names else _GRU
    table = {LSTM: _LSTM, RNN: _RNN}.get(type(cell))
    if table is None:
        raise _form.no_such("flax.linen", cell, "GRU, LSTM, RNN and, read into a GRU, MGUCell")
    return table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Where a cell stands: bare cells of a Stack are given the nn.RNN that they need there."""
    if leaves[0].bare and leaves[0].layer is None:
        in_rnn = any(name.startswith("params/cell/") for name in names)
        return ["params/cell/{}" if in_rnn else "params/{}"]
    return [
        "params/"
        + ("" if leaf.layer is None else f"layers_{leaf.layer}/")
        + (f"{leaf.way}_rnn/cell/{{}}" if leaf.way else "cell/{}")
        for leaf in leaves
    ]


def _names(arrays: Arrays, leaves: list[Leaf]) -> Arrays:
    """Put "params" before names that lack it."""
    if any(name.startswith("params/") for name in arrays):
        return arrays
    return {f"params/{name}": array for name, array in arrays.items()}


def _nest(name: str) -> list[str]:
    return name.split("/")


_FORM = Form(Rules("flax.linen"), _table, _place, names=_names, nest=_nest)
