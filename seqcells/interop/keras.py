"""Keras 3: GRU (reset_after both ways), LSTM, SimpleRNN, ConvLSTM2D, Bidirectional, and models.

Arrays are named by the path of a weight, `{w.path: w.numpy() for w in model.weights}`, in that
order; `model.set_weights(list(arrays.values()))` accepts the result of `dump`. Only the last part
of a path identifies the array, because Keras numbers its layers across a whole process. The parts
before it distinguish layers, and the two directions of a Bidirectional, but not the order in which
layers run. That is the order of the dict, or else `layers`. Pass `layers` for a model that is
neither Sequential nor functional, because Keras lists its layers in the order of assignment. Names
of Keras 2, which end in ":0", are read too.

Keras's z keeps the old value, so the signs of its weights change; gates are in the order z|r|h and
i|f|c|o. `reset_after=True`, the default there too, has both biases, as bias [2, 3H]; False has one,
`GRU(reset_after=False, bias="single")`. LSTM, SimpleRNN and ConvLSTM2D have one bias. Weights do
not contain `activation`, `recurrent_activation` ("sigmoid" here; "hard_sigmoid" by default before
Keras 2.3, and in ConvLSTM2D before Keras 3), `merge_mode`, `reset_after`, nor ConvLSTM2D's
`padding`, which must be "same", and `strides` and `dilation_rate`, which must be 1: set these in
Keras to match the cell.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, RNN, ConvLSTM
from seqcells.interop import _form, _order
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import NO_PROJECTION, ONE_KERNEL, Join, Table, slots
from seqcells.interop._order import Groups
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
_LSTM = Table(
    "keras.layers.LSTM",
    slots(_WEIGHTS, {"bias": "b"}, "ifgo"),
    needs=(NO_PROJECTION,),
    bias_free=True,
)
_RNN = Table("keras.layers.SimpleRNN", slots(_WEIGHTS, {"bias": "b"}, "h"), bias_free=True)
_CONV = Table(
    "keras.layers.ConvLSTM2D",
    slots(_WEIGHTS, {"bias": "b"}, "ifgo"),
    needs=(ONE_KERNEL,),
    bias_free=True,
)
_TABLES = {GRU: _AFTER, LSTM: _LSTM, RNN: _RNN, ConvLSTM: _CONV}
_NAMES = {  # of the layer, and of its cell
    GRU: ("gru", "gru_cell"),
    LSTM: ("lstm", "lstm_cell"),
    RNN: ("simple_rnn", "simple_rnn_cell"),
    ConvLSTM: ("conv_lstm2d", "conv_lstm_cell"),
}


def load(weights: Weights, model: Model, *, layers: Sequence[str] | None = None) -> Params:
    """Convert a layer's weights to parameters.

    Args:
        weights: {path: array}, such as "gru/gru_cell/kernel": float[D, 3H], in Keras's order; or an
            open .h5 file of a model, `h5py.File(path)`, which keeps the order of its layers.
        model: a cell, `Recurrent`, `Bidirectional` or a `Stack` of these.
        layers: the layers' names in the order in which they run, `[layer.name for layer in
            model.layers]`. Needed for a Stack whose weights are not in Keras's order, such as a
            dict that was sorted by name.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    weights, saved = _saved_layers(weights)
    return _form.load(_form_of(saved if layers is None else layers), weights, model)


def dump(
    model: Model,
    params: Params,
    *,
    like: Weights | None = None,
    layers: Sequence[str] | None = None,
) -> Arrays:
    """Convert parameters to a layer's weights.

    Args:
        model: as in `load`.
        params: its parameters.
        like: a dict whose paths are used; by default those of the first model in a process.
        layers: as in `load`, for `like`.

    Returns:
        {path: array}, NumPy arrays in the order of Keras's `weights`.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _form.dump(_form_of(layers), model, params, like)


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("keras", _TABLES, cell, "GRU, LSTM, SimpleRNN and ConvLSTM2D")
    return _BEFORE if isinstance(cell, GRU) and not cell.reset_after else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    """Name layers as Keras does in a new process: by kind, numbered from the second on."""
    counts: dict[str, int] = {}
    places: list[str] = []
    outer = inner = ""
    for leaf in leaves:
        kind, cell = _NAMES.get(type(leaf.cell), ("", ""))
        if leaf.bare and leaf.layer is None:
            places.append(f"{cell}/{{}}")
            continue
        if leaf.direction != "backward":  # it has the number of the forward layer
            outer = _numbered(counts, "bidirectional") + "/" if leaf.direction else ""
            inner = _numbered(counts, kind)
        start = "" if leaf.layer is None else "sequential/"
        direction = f"{leaf.direction}_" if leaf.direction else ""
        places.append(f"{start}{outer}{direction}{inner}/{cell}/{{}}")
    return places


def _numbered(counts: dict[str, int], kind: str) -> str:
    counts[kind] = counts.get(kind, 0) + 1
    return kind if counts[kind] == 1 else f"{kind}_{counts[kind] - 1}"


def _rename(arrays: Arrays, leaves: list[Leaf], layers: Sequence[str] | None) -> Arrays:
    """Rename the groups of arrays, in the order in which their layers run, as `_place` does."""
    plain = {path.removesuffix(":0"): array for path, array in arrays.items()}  # Keras 2 has ":0"
    if len(plain) < len(arrays):
        twice = next(path for path in arrays if path.endswith(":0") and path[:-2] in arrays)
        raise ValueError(f"{twice}: expected one array of this name, got two")
    groups: Groups = {}
    for path in plain:
        start, _, end = path.rpartition("/")
        groups.setdefault(start, []).append(end)
    if len(groups) != len(leaves):
        raise ValueError(
            f"weights: expected the arrays of {len(leaves)} cells, got those of {len(groups)}: "
            f"{', '.join(groups) or 'none'}"
        )
    starts = _sorted(plain, groups, leaves, layers)
    places = dict(zip(starts, _place(leaves, frozenset()), strict=True))
    cut = {path: path.rpartition("/") for path in plain}
    return {places[cut[path][0]].format(cut[path][2]): array for path, array in plain.items()}


def _sorted(
    arrays: Arrays, groups: Groups, leaves: list[Leaf], layers: Sequence[str] | None
) -> list[str]:
    """Return the starts of the names of each cell, in the order of `leaves`."""
    starts, is_own = list(groups), _order.is_own(arrays, groups, _ENDS)
    if layers is not None:
        ranks = _order.ranks(starts, layers)
        starts.sort(key=lambda start: (ranks[start], _direction(start) == "backward"))
        for (one, two), (a, b) in zip(pairwise(starts), pairwise(leaves), strict=True):
            if (ranks[one] == ranks[two]) != (a.layer == b.layer):
                raise ValueError(f"layers: expected a name for each layer, not both {one}, {two}")
    elif len({leaf.layer for leaf in leaves}) > 1 and not is_own and _order.alike(arrays, groups):
        late = (b for a, b in pairwise(starts) if _order.number(b) < _order.number(a))
        raise ValueError(
            f"{next(late, starts[0])}: expected Keras's own order, that of model.weights; got "
            f"{', '.join(starts)}, which may be sorted by name; pass layers=[layer.name for layer "
            f"in model.layers]"
        )
    for start, leaf in zip(starts, leaves, strict=True):
        _check_direction(start, leaf, groups, sure=is_own)
    return starts


def _check_direction(start: str, leaf: Leaf, groups: Groups, *, sure: bool) -> None:
    """Raise if a name has the wrong direction, or has none although the order may be wrong."""
    got = _direction(start)
    if leaf.direction:
        if got != leaf.direction and (got or not sure):
            raise ValueError(
                f"{start}: expected the {leaf.direction} layer here, in Keras's own order"
            )
    elif got and _OTHER[got].join(start.rsplit(f"{got}_", 1)) in groups:
        raise ValueError(f"{start}: expected a layer, got one direction of a Bidirectional")


def _direction(start: str) -> str:
    """Return "forward" or "backward" if the layer's own name starts with it, else ""."""
    found = re.findall(r"(?:^|/)(forward|backward)_", start)
    return found[-1] if found else ""


def _saved_layers(weights: Weights) -> tuple[Weights, list[str] | None]:
    """Return the weights in an open .h5 file of Keras, and the order of layers stored in it."""
    inner = weights.get("model_weights") if hasattr(weights, "attrs") else None
    weights = inner if isinstance(inner, Mapping) else weights
    names = getattr(weights, "attrs", {}).get("layer_names")
    if names is None:
        return weights, None
    return weights, [n.decode() if isinstance(n, bytes) else str(n) for n in names]


def _form_of(layers: Sequence[str] | None) -> Form:
    return _FORM._replace(rename=functools.partial(_rename, layers=layers))


_ENDS = ("kernel", "recurrent_kernel", "bias")  # of the names of a cell's arrays, in Keras's order
_OTHER = {"forward": "backward_", "backward": "forward_"}
_FORM = Form(Rules("keras", tuple(MERGES), reverse=False), _table, _place)
