"""PyTorch: `nn.GRU`, `nn.LSTM`, `nn.RNN` and their cells, by the names of a `state_dict`.

A cell is an `nn.GRUCell` (weight_ih) or an `nn.GRU` of one layer (weight_ih_l0); a layer is an
`nn.GRU` of one or more layers, in one or two directions. An LSTM with a `proj_size` is always an
`nn.LSTM`. PyTorch's z keeps the old value, so the signs of its weights change; its matrices are
[out, in]. nn.LSTM and nn.RNN have two biases: `load` adds them, and `dump` sets the second to zero.
A state_dict does not contain `nonlinearity`, `batch_first` or `dropout`: set `nonlinearity` to the
cell's activation in PyTorch.
"""

from __future__ import annotations

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import RESET_AFTER, TANH_OR_RELU, Slot, Table, slots
from seqcells.interop._walk import Leaf, Rules

_WEIGHTS = {"weight_ih": "w_ih", "weight_hh": "w_hh"}
_ONE_BIAS = {"bias_ih": "b", "bias_hh": "b"}
_TABLES = {
    GRU: Table(
        "torch.nn.GRU",
        slots(_WEIGHTS, {"bias_ih": "b_ih", "bias_hh": "b_hh"}, "rzn"),
        needs=(RESET_AFTER,),
        negated="z",
        transposed=True,
        bias_free=True,
    ),
    LSTM: Table(
        "torch.nn.LSTM", slots(_WEIGHTS, _ONE_BIAS, "ifgo"), transposed=True, bias_free=True
    ),
    RNN: Table(
        "torch.nn.RNN",
        slots(_WEIGHTS, _ONE_BIAS, "h"),
        needs=(TANH_OR_RELU,),
        transposed=True,
        bias_free=True,
    ),
}
_PROJECTION = Slot("weight_hr", "w_hr", "p")


def load(state_dict: Weights, model: Model) -> Params:
    """Convert a module's `state_dict` to parameters.

    Args:
        state_dict: {name: array}, such as "weight_ih_l0": float[3H, D]; tensors on the CPU work
            too.
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of equal ones.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.

    >>> import numpy as np, seqcells as sc
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"weight_ih": (12, 3), "weight_hh": (12, 4), "bias_ih": (12,), "bias_hh": (12,)}
    >>> state_dict = {name: rng.normal(size=s).astype("f") for name, s in shapes.items()}
    >>> params = sc.interop.torch.load(state_dict, sc.GRU(4))
    >>> back = sc.interop.torch.dump(sc.GRU(4), params)
    >>> all((back[name] == state_dict[name]).all() for name in state_dict)
    True
    """
    return _form.load(_FORM, state_dict, model)


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Arrays:
    """Convert parameters to a `state_dict`.

    Args:
        model: as in `load`.
        params: its parameters.
        like: a dict whose names are used, for example to export a cell as an `nn.GRU` of one layer.

    Returns:
        {name: array}, NumPy arrays.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _form.dump(_FORM, model, params, like)


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("torch", _TABLES, cell, "GRU, LSTM and RNN")
    projects = isinstance(cell, LSTM) and cell.proj_size is not None
    return table._replace(slots=(*table.slots, _PROJECTION)) if projects else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    cell = leaves[0].cell
    module = isinstance(cell, LSTM) and cell.proj_size is not None  # nn.LSTMCell has no projection
    if leaves[0].bare and "weight_ih_l0" not in names and not module:
        return ["{}"]
    ends = {"": "", "forward": "", "backward": "_reverse"}
    return [f"{{}}_l{leaf.layer or 0}{ends[leaf.direction]}" for leaf in leaves]


_FORM = Form(Rules("torch", ("concat",), reverse=False, alike="stack"), _table, _place)
