"""Keras 3: GRU (reset_after both ways), LSTM, SimpleRNN, Bidirectional, and models of these.

Arrays go by the path of a weight, `{w.path: w.numpy() for w in model.weights}`, in that order, and
`model.set_weights(list(arrays.values()))` takes what `dump` returns. Only the last part of a path
says what the array is, because Keras numbers its layers across a whole process. The parts before it
tell the layers apart, and the two directions of a Bidirectional.

Keras's z keeps the old value, so the signs of its weights change; gates are in the order z|r|h and
i|f|c|o. `reset_after=True`, the default there too, has both biases, as bias [2, 3H]; False has one,
`GRU(reset_after=False, bias="single")`. LSTM and SimpleRNN have one bias. Weights do not hold
`activation`, `merge_mode` or `reset_after`: set them as the cell has them yourself.
"""

from __future__ import annotations

import re

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _form
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import Join, Table, slots
from seqcells.interop._walk import Leaf, Rules
from seqcells.layers import MERGES

_WEIGHTS = {"kernel": "w_ih", "recurrent_kernel": "w_hh"}
_AFTER = Table(
    "keras.layers.GRU(reset_after=True)",
    slots(_WEIGHTS, {"0": "b_ih", "1": "b_hh"}, "zrn"),
    (Join("bias", ("0", "1"), axis=0, new=True),),
    negated="z",
    bias_free=True,
)
_BEFORE = Table(
    "keras.layers.GRU(reset_after=False)",
    slots(_WEIGHTS, {"bias": "b_ih"}, "zrn"),
    negated="z",
    bias_free=True,
)
_LSTM = Table("keras.layers.LSTM", slots(_WEIGHTS, {"bias": "b"}, "ifgo"), bias_free=True)
_RNN = Table("keras.layers.SimpleRNN", slots(_WEIGHTS, {"bias": "b"}, "h"), bias_free=True)
_TABLES = {GRU: _AFTER, LSTM: _LSTM, RNN: _RNN}
_NAMES = {GRU: "gru", LSTM: "lstm", RNN: "simple_rnn"}


def load(weights: Weights, model: Model) -> Params:
    """Convert a layer's weights to parameters.

    Args:
        weights: {path: array}, such as "gru/gru_cell/kernel": float[D, 3H], in Keras's order.
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_FORM, weights, model)


def dump(model: Model, params: Params, *, like: Weights | None = None) -> Arrays:
    """Convert parameters to a layer's weights.

    Args:
        model: as in `load`.
        params: its parameters.
        like: a dict whose paths are used; by default those of the first model in a process.

    Returns:
        {path: array}, NumPy arrays in the order of Keras's `weights`.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _form.dump(_FORM, model, params, like)


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("keras", _TABLES, cell, "GRU, LSTM and SimpleRNN")
    return _BEFORE if isinstance(cell, GRU) and not cell.reset_after else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Name layers as Keras does in a new process: by kind, with a number from the second on."""
    counts: dict[str, int] = {}
    places: list[str] = []
    outer = inner = ""
    for leaf in leaves:
        kind = _NAMES.get(type(leaf.cell), "")
        if leaf.bare and leaf.layer is None:
            places.append(f"{kind}_cell/{{}}")
            continue
        if leaf.direction != "backward":  # it has the number of the forward layer
            outer = _numbered(counts, "bidirectional") + "/" if leaf.direction else ""
            inner = _numbered(counts, kind)
        start = "" if leaf.layer is None else "sequential/"
        direction = f"{leaf.direction}_" if leaf.direction else ""
        places.append(f"{start}{outer}{direction}{inner}/{kind}_cell/{{}}")
    return places


def _numbered(counts: dict[str, int], kind: str) -> str:
    counts[kind] = counts.get(kind, 0) + 1
    return kind if counts[kind] == 1 else f"{kind}_{counts[kind] - 1}"


def _rename(arrays: Arrays, leaves: list[Leaf]) -> Arrays:
    """Rename the groups of arrays, in their order, as `_place` names them."""
    groups: dict[str, Arrays] = {}
    for path, array in arrays.items():
        start, _, name = path.rpartition("/")
        groups.setdefault(start, {})[name] = array
    _check_groups(list(groups), leaves)
    return {
        place.format(name): array
        for place, group in zip(_place(leaves, frozenset()), groups.values(), strict=True)
        for name, array in group.items()
    }


def _check_groups(starts: list[str], leaves: list[Leaf]) -> None:
    """Raise unless there is one group for each cell, in an order that Keras can produce."""
    if len(starts) != len(leaves):
        raise ValueError(
            f"weights: expected the arrays of {len(leaves)} cells, got those of {len(starts)}: "
            f"{', '.join(starts) or 'none'}"
        )
    last: dict[str, int] = {}
    for start, leaf in zip(starts, leaves, strict=True):
        if leaf.direction and f"/{leaf.direction}_" not in f"/{start}":
            raise ValueError(
                f"{start}: expected the {leaf.direction} layer here, in Keras's own order"
            )
        base, number = _split_number(start)
        if number < last.get(base, -1):
            raise ValueError(f"{start}: expected Keras's own order of layers, got it after {last}")
        last[base] = number


def _split_number(start: str) -> tuple[str, int]:
    """Split the last number off a path: "gru_10/gru_cell" is ("gru_/gru_cell", 10)."""
    numbers = re.findall(r"_(\d+)(?=/|$)", start)
    return re.sub(r"_\d+(?=/|$)", "_", start), int(numbers[-1]) if numbers else 0


_FORM = Form(Rules("keras", tuple(MERGES), reverse=False), _table, _place, rename=_rename)
