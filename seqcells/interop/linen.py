"""Flax Linen: GRUCell, LSTMCell, SimpleCell, MGUCell, ConvLSTMCell, RNN and Bidirectional.

Arrays are nested as `module.init` nests them, {"params": {"ir": {"kernel": ...}}}; "params" may be
left out. A layer is `nn.RNN` (its cell is under "cell") or `nn.Bidirectional` (under "forward_rnn"
and "backward_rnn"); a Stack is `nn.Sequential` ("layers_0", ...).

Flax's z keeps the old value, so the signs of its weights change. GRUCell has a recurrent bias only
for the candidate, like `GRU(bias="candidate")`: `dump` raises unless those of r and z are zero, and
`seqcells.interop.fold_biases` adds them to b_ih. MGUCell (`reset_gate=True`) uses the same f to
keep and to reset, so no `MGU` equals it. It loads into a `GRU`, whose r has the weights of f and
whose z has them negated; `dump` with `like` writes them back. OptimizedLSTMCell has the arrays of
LSTMCell. ConvLSTMCell adds 1 to its forget gate, which is a part of the bias of `ConvLSTM`, and its
two biases are added; its `strides` must be 1, and its padding SAME. The carry of both is (c, h).
"""

from __future__ import annotations

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, MGU, RNN, ConvLSTM
from seqcells.interop import _arrays, _form
from seqcells.interop._arrays import Arrays, Nested, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import NO_PROJECTION, ONE_KERNEL, RESET_AFTER, Slot, Table, slots
from seqcells.interop._walk import Leaf, Rules


def _gatewise(weights: str, biases: str, order: str, field: str) -> tuple[Slot, ...]:
    """Make the slots of one array for each gate: "ir/kernel", "hr/kernel", and their biases."""
    return (
        *(Slot(f"i{g}/kernel", "w_ih", g) for g in order),
        *(Slot(f"h{g}/kernel", "w_hh", g) for g in order),
        *(Slot(f"{weights}{g}/bias", field, g) for g in biases),
    )


_GRU = Table(
    "flax.linen.GRUCell",
    (*_gatewise("i", "rzn", "rzn", "b_ih"), Slot("hn/bias", "b_hh", "n")),
    needs=(RESET_AFTER,),
    negated="z",
)
_LSTM = Table("flax.linen.LSTMCell", _gatewise("h", "ifgo", "ifgo", "b"), needs=(NO_PROJECTION,))
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
_CONV = Table(
    "flax.linen.ConvLSTMCell",
    slots(
        {"ih/kernel": "w_ih", "hh/kernel": "w_hh"}, {"ih/bias": "b", "hh/bias": "b"}, order="igfo"
    ),
    needs=(ONE_KERNEL,),
    shifted="f",
)
_TABLES = {GRU: _GRU, LSTM: _LSTM, RNN: _RNN, ConvLSTM: _CONV}


def load(variables: Weights, model: Model) -> Params:
    """Convert a module's variables to parameters.

    Args:
        variables: {"params": ...}, nested dicts; "ir/kernel" is float[D, H].
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_FORM, variables, model)


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Nested:
    """Convert parameters to a module's variables.

    Args:
        model: as in `load`.
        params: its parameters.
        like: variables whose names are used, to export a cell as an `nn.RNN` or an MGUCell.

    Returns:
        {"params": ...}, nested dicts of NumPy arrays.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _arrays.nest(_form.dump(_FORM, model, params, like), _path)


def _table(cell: Cell, names: Names) -> Table:
    if isinstance(cell, MGU):
        raise ValueError(
            f"model: no weights make {cell} equal to flax.linen.MGUCell, whose gate resets by the "
            f"share that it keeps, not by the share that it writes; load its arrays into "
            f"GRU({cell.hidden_size})"
        )
    has = "GRU, LSTM, RNN, ConvLSTM and, read into a GRU, MGUCell"
    table = _form.select("flax.linen", _TABLES, cell, has)
    return _MGU if table is _GRU and "if/kernel" in names else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Return the position of each cell; cells in a Stack are wrapped in nn.RNN there."""
    if leaves[0].bare and leaves[0].layer is None:
        in_rnn = any(name.startswith("params/cell/") for name in names)
        return ["params/cell/{}" if in_rnn else "params/{}"]
    return [
        "params/"
        + ("" if leaf.layer is None else f"layers_{leaf.layer}/")
        + (f"{leaf.direction}_rnn/cell/{{}}" if leaf.direction else "cell/{}")
        for leaf in leaves
    ]


def _rename(arrays: Arrays, leaves: list[Leaf]) -> Arrays:
    """Add "params" to names without it."""
    if any(name.startswith("params/") for name in arrays):
        return arrays
    return {f"params/{name}": array for name, array in arrays.items()}


def _path(name: str) -> list[str]:
    return name.split("/")


_FORM = Form(Rules("flax.linen"), _table, _place, rename=_rename)
