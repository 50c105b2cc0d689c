"""Haiku: GRU, LSTM and VanillaRNN, alone or in a DeepRNN.

Arrays are nested as `hk.transform(...).init` nests them: {"gru": {"w_i": ...}}. A module may have
any name and be in any scope, "net/~/encoder". `init` lists modules in the order in which they run.
In a dict that was sorted by name, as by `jax.tree.map`, modules of the same kind are ordered by the
numbers that Haiku gave them at creation: "gru", "gru_1". Pass `layers` if names have no numbers, or
modules run in another order than they were created. There is no bidirectional module.

A `Recurrent(reverse=True)` is `hk.dynamic_unroll(..., reverse=True)`. Resets differ there:
`hk.ResetCore` resets before it reads a step from the end, so a reset starts the sequence of the
earlier steps. Here a reset marks the first step of a sequence in time, also with `reverse=True`.

Haiku's z is the fraction that is written, as here. Its GRU resets before the product and has one
bias: `GRU(reset_after=False, bias="single")`. VanillaRNN is `RNN(activation="relu")`; `load` adds
its two biases, and `dump` sets the second to zero. LSTM adds 1 to the forget gate's bias whenever
it runs, so `load` adds 1 and `dump` subtracts it: the only conversion that rounds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, LSTM, RNN
from seqcells.interop import _arrays, _form, _order
from seqcells.interop._arrays import Arrays, Nested, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import NO_PROJECTION, RESET_BEFORE, Join, Need, Table, slots
from seqcells.interop._order import Groups
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
    needs=(NO_PROJECTION,),
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


def load(params: Weights, model: Model, *, layers: Sequence[str] | None = None) -> Params:
    """Convert Haiku's parameters to ours.

    Args:
        params: {module: {name: array}}; "gru" -> "w_i" is float[D, 3H].
        model: a cell, a `Recurrent` or a `Stack` of these.
        layers: the modules' names in the order in which they run, if the dict does not determine
            it.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.
    """
    return _form.load(_form_of(layers), params, model)


def dump(
    model: Model,
    params: Params,
    *,
    like: Weights | None = None,
    layers: Sequence[str] | None = None,
) -> Nested:
    """Convert parameters to Haiku's.

    Args:
        model: as in `load`.
        params: its parameters.
        like: Haiku parameters whose names are used, for instance to export an RNN as a
            `VanillaRNN(double_bias=False)`.
        layers: as in `load`, for `like`.

    Returns:
        {module: {name: array}}, NumPy arrays.

    Raises:
        ValueError: if no weights make the two equal.
    """
    return _arrays.nest(_form.dump(_form_of(layers), model, params, like), _path)


def _table(cell: Cell, names: Names) -> Table:
    table = _form.select("haiku", _TABLES, cell, "GRU, LSTM and VanillaRNN")
    return _RNN_ONE if table is _RNN and names and "/linear_1/b" not in names else table


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    kinds = [_NAMES.get(type(leaf.cell), "") for leaf in leaves]
    return [_numbered(kind, kinds[:i].count(kind)) for i, kind in enumerate(kinds)]


def _numbered(kind: str, count: int) -> str:
    return f"{kind}_{count}{{}}" if count else f"{kind}{{}}"


def _rename(arrays: Arrays, leaves: list[Leaf], layers: Sequence[str] | None) -> Arrays:
    """Rename modules, in the order in which they run, as `_place` does."""
    ends = {name: match[1] for name in arrays if (match := _END.search(name))}
    groups: Groups = {}
    for name, end in ends.items():
        groups.setdefault(name.removesuffix(f"/{end}"), []).append(end)
    kinds = {start: _kind(own) for start, own in groups.items()}
    wanted = [_NAMES.get(type(leaf.cell), "") for leaf in leaves]
    if len(ends) < len(arrays) or sorted(kinds.values()) != sorted(wanted):
        return arrays  # the check of names reports the error
    is_own = _order.is_own(arrays, groups, _ENDS)
    places: dict[str, str] = {}
    for kind in set(wanted):
        starts = _sorted([s for s in groups if kinds[s] == kind], layers, is_own=is_own)
        places |= {start: _numbered(kind, i) for i, start in enumerate(starts)}
    return {
        places[name.removesuffix(f"/{end}")].format(f"/{end}"): arrays[name]
        for name, end in ends.items()
    }


def _kind(ends: list[str]) -> str:
    """Return the name that Haiku gives to a module with these arrays."""
    if "w_i" in ends:
        return "gru"
    return "vanilla_rnn" if "linear_1/w" in ends else "lstm"


def _sorted(starts: list[str], layers: Sequence[str] | None, *, is_own: bool) -> list[str]:
    """Return the names of modules of one kind in the order in which they run."""
    if layers is not None:
        return sorted(starts, key=_order.ranks(starts, layers).__getitem__)
    if is_own or len(starts) == 1:
        return starts
    ordered = sorted(starts, key=_order.number)
    if not _order.are_numbered(ordered):
        raise ValueError(
            f"{starts[0]}: expected modules in the order of init, or with Haiku's numbers; got "
            f"{', '.join(starts)}, which may be sorted by name; pass layers=[...], their names in "
            f"the order in which they run"
        )
    return ordered


def _path(name: str) -> tuple[str, str]:
    module, _, last = name.rpartition("/")
    return module, last


def _form_of(layers: Sequence[str] | None) -> Form:
    return _FORM._replace(rename=functools.partial(_rename, layers=layers))


# The ends of the names of a module's arrays, in Haiku's order.
_ENDS = ("w_i", "w_h", "linear/w", "linear/b", "linear_1/w", "linear_1/b", "b")
_END = re.compile(rf"(?<=.)/({'|'.join(_ENDS)})$")
_FORM = Form(Rules("haiku", merges=()), _table, _place)
