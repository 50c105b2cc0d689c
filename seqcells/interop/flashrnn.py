"""flashrnn: the sLSTM, `flashrnn(Wx, R, b, function="slstm")`.

R is float[4, heads, H/heads, H/heads], [gate, head, unit, unit that it reads], and b is
float[4, heads, H/heads]: flashrnn's default shapes, "GHDP" and "GHD". Gates are in the order
i, f, z, o, as here. flashrnn takes the product Wx; W is the weight of the linear layer before it,
`torch.nn.Linear(D, 4 * H)`, as float[4, heads, H/heads, D]. Add the bias of that layer to b. Values
are only reordered, so both directions are exact.

flashrnn decides for the whole batch at once whether a step is the first one, and `SLSTM` for each
unit. They differ for a batch in which some rows start and others go on.
"""

from __future__ import annotations

import functools
import math

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import SLSTM
from seqcells.interop import _form
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Table, slots
from seqcells.interop._walk import Leaf, Rules

_SLSTM = Table("flashrnn", slots({"W": "w_ih", "R": "w_hh"}, {"b": "b"}, "ifzo"), transposed=True)


def load(arrays: Weights, cell: Model) -> Params:
    """Convert flashrnn's arrays to parameters.

    Args:
        arrays: {"W": float[4, heads, H/heads, D], "R": float[4, heads, H/heads, H/heads],
            "b": float[4, heads, H/heads]}; tensors on the CPU work too.
        cell: an `SLSTM`.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if `cell` is no `SLSTM`, a name, shape or dtype is wrong, or the cell has no
            bias and b is not zero.

    >>> import numpy as np, seqcells as sc
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"W": (4, 2, 3, 5), "R": (4, 2, 3, 3), "b": (4, 2, 3)}
    >>> arrays = {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}
    >>> cell = sc.SLSTM(6, heads=2)
    >>> params = sc.interop.flashrnn.load(arrays, cell)
    >>> back = sc.interop.flashrnn.dump(cell, params)
    >>> all((back[name] == arrays[name]).all() for name in arrays)
    True
    """
    return _form.load(_form_of(cell), arrays, cell)


def dump(cell: Model, params: Params) -> Arrays:
    """Convert parameters to flashrnn's arrays.

    Args:
        cell: an `SLSTM`.
        params: its parameters; without a bias, b is zero.

    Returns:
        {"W": array, "R": array, "b": array}, NumPy arrays of the shapes that `load` takes.

    Raises:
        ValueError: if `cell` is no `SLSTM`, or the parameters are not its own.
    """
    return _form.dump(_form_of(cell), cell, params, None)


def _form_of(cell: Model) -> Form:
    if type(cell) is not SLSTM:
        raise ValueError(
            f"cell: expected an SLSTM, the only cell of flashrnn that is converted, got {cell}"
        )
    return _FORM._replace(pack=functools.partial(_by_head, heads=cell.heads))


def _by_head(arrays: Arrays, heads: int) -> Arrays:
    """Cut the first axis, [4H], into [4, heads, H/heads]."""
    width = len(arrays["b"]) // (4 * heads)
    return {name: a.reshape(4, heads, width, *a.shape[1:]) for name, a in arrays.items()}


def _flat(arrays: Arrays) -> Arrays:
    """Undo `_by_head`."""
    return {name: a.reshape(math.prod(a.shape[:3]), *a.shape[3:]) for name, a in arrays.items()}


def _table(cell: Cell, names: Names) -> Table:
    return _SLSTM


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    return ["{}"]


_FORM = Form(Rules("flashrnn"), _table, _place, unpack=_flat)
