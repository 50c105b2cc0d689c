"""PyTorch: `nn.GRU`, `nn.LSTM`, `nn.RNN` and their cells, as a `state_dict` names their arrays.

A cell is `nn.GRUCell` (weight_ih) or a `nn.GRU` of one layer (weight_ih_l0); a layer is a `nn.GRU`
of one or more layers, one or two directions. z keeps the old value there, so its signs are turned;
matrices stand as [out, in]. nn.LSTM and nn.RNN have two biases: `load` adds them, and `dump` leaves
the second at zero. A state_dict does not hold `nonlinearity`, `batch_first` or `dropout`: those are
yours to set, "tanh" or "relu" as the cell has it.
"""

from __future__ import annotations

from typing import Any

from seqcells._cell import Cell
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Table, slots
from seqcells.interop._walk import CellOrLayer, Leaf, Rules

_WEIGHTS = {"weight_ih": "w_ih", "weight_hh": "w_hh"}
_ONE_BIAS = {"bias_ih": "b", "bias_hh": "b"}
_TABLES = {
    GRU: Table(
        "torch.nn.GRU",
        slots(_WEIGHTS, {"bias_ih": "b_ih", "bias_hh": "b_hh"}, "rzn"),
        negated="z",
        transposed=True,
        bias_free=True,
    ),
    LSTM: Table(
        "torch.nn.LSTM", slots(_WEIGHTS, _ONE_BIAS, "ifgo"), transposed=True, bias_free=True
    ),
    RNN: Table("torch.nn.RNN", slots(_WEIGHTS, _ONE_BIAS, "h"), transposed=True, bias_free=True),
}


def load(state_dict: Any, cell_or_layer: CellOrLayer) -> Any:
    """Make parameters of a module's `state_dict`.

    Args:
        state_dict: {name: array}, such as "weight_ih_l0": float[3H, D]; tensors on the CPU serve.
        cell_or_layer: a cell, `Recurrent`, `Bidirectional` or a `Stack` of equal ones.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: where no weights make the two equal, or on a wrong name, shape or dtype.

    >>> import numpy as np, seqcells as sc
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"weight_ih": (12, 3), "weight_hh": (12, 4), "bias_ih": (12,), "bias_hh": (12,)}
    >>> state_dict = {name: rng.normal(size=s).astype("f") for name, s in shapes.items()}
    >>> params = sc.interop.torch.load(state_dict, sc.GRU(4))
    >>> back = sc.interop.torch.dump(sc.GRU(4), params)
    >>> all((back[name] == state_dict[name]).all() for name in state_dict)
    True
    """
    return _form.load(_FORM, state_dict, cell_or_layer)


def dump(cell_or_layer: CellOrLayer, params: Any, *, like: Any = None) -> dict[str, Any]:
    """Make a `state_dict` of parameters.

    Args:
        cell_or_layer: as in `load`.
        params: its parameters.
        like: a dict whose names to follow, where a cell is to become a `nn.GRU` of one layer.

    Returns:
        {name: array}, NumPy arrays.

    Raises:
        ValueError: where no weights make the two equal.
    """
    return _form.dump(_FORM, cell_or_layer, params, like)


def _table(cell: Cell, names: Names) -> Table:
    table = _TABLES.get(type(cell))
    if table is None:
        raise _form.no_such("torch", cell, "GRU, LSTM and RNN")
    if isinstance(cell, GRU) and not cell.reset_after:
        raise ValueError(f"reset_after: {table.where} resets after the product, got {cell}")
    if isinstance(cell, RNN) and cell.activation not in ("tanh", "relu"):
        raise ValueError(f"activation: {table.where} has tanh and relu, got {cell}")
    return table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    if leaves[0].bare and "weight_ih_l0" not in names:
        return ["{}"]
    ends = {"": "", "forward": "", "backward": "_reverse"}
    return [f"{{}}_l{leaf.layer or 0}{ends[leaf.way]}" for leaf in leaves]


_FORM = Form(Rules("torch", ("concat",), reverse=False, alike="stack"), _table, _place)
