"""A framework as a value, and the two functions that every file of one binds: load and dump."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._cell import Cell
from seqcells.interop import _arrays, _gates, _walk
from seqcells.interop._arrays import Nest
from seqcells.interop._gates import Arrays, Table
from seqcells.interop._walk import CellOrLayer, Leaf, Rules

Names = frozenset[str]  # of the arrays that came; empty where they are ours to choose


def _same(arrays: Arrays) -> Arrays:
    return arrays


def _ordered(arrays: Arrays, leaves: list[Leaf]) -> Arrays:
    return arrays


class Form(NamedTuple):
    """What a framework is to `load` and `dump`."""

    rules: Rules
    table: Callable[[Cell, Names], Table]  # raises where it has no such cell; names are its own
    place: Callable[[list[Leaf], Names], list[str]]  # a leaf's "weight_ih_l0" as "{}_l0"
    names: Callable[[Arrays, list[Leaf]], Arrays] = _ordered  # from their names to those of `place`
    pack: Callable[[Arrays], Arrays] = _same  # the last step of dump
    unpack: Callable[[Arrays], Arrays] = _same  # its inverse
    nest: Nest | None = None  # where its dicts are nested


def load(form: Form, arrays: Any, layer: CellOrLayer) -> Any:
    """Make parameters of a framework's arrays."""
    leaves = _walk.leaves(form.rules, layer)
    for leaf in leaves:
        form.table(leaf.cell, frozenset())  # a cell that it lacks is said before a wrong name
    flat = form.names(_arrays.flat(arrays), leaves)
    names = frozenset(flat)
    zeros = _walk.zeros(layer, _input_size(form, layer, leaves, flat))
    expected = form.pack(_written(form, layer, leaves, zeros, names))
    _arrays.check(f"{layer} in {form.rules.name}", flat, expected)
    flat = form.unpack(flat)
    made = []
    own = _walk.parts(layer, zeros)
    for leaf, place, like in zip(leaves, form.place(leaves, names), own, strict=True):
        table = form.table(leaf.cell, _own(names, place))
        mine = {name: flat[place.format(name)] for name in _gates.write(table, leaf.cell, like)}
        params = _gates.read(table, leaf.cell, mine, like)
        made.append(jax.tree.map(jnp.array, params))  # copies: the framework may go on training
    return _walk.whole(layer, made)


def dump(form: Form, layer: CellOrLayer, params: Any, like: Any) -> Any:
    """Make a framework's arrays of parameters."""
    leaves = _walk.leaves(form.rules, layer)
    size = _walk.check_params(layer, params)
    theirs = {} if like is None else _arrays.flat(like)
    wanted = form.names(theirs, leaves) if theirs else {}
    names = frozenset(wanted)
    host = jax.tree.map(np.asarray, params)
    flat = form.pack(_written(form, layer, leaves, host, names))
    if wanted:
        zeros = _walk.zeros(layer, size)
        expected = form.pack(_written(form, layer, leaves, zeros, names))
        _arrays.check(f"{layer} in {form.rules.name}", wanted, expected)
        flat = {name: flat[mine] for name, mine in zip(theirs, wanted, strict=True)}
    flat = {name: np.array(array, order="C") for name, array in flat.items()}
    return flat if form.nest is None else _arrays.nested(flat, form.nest)


def no_such(form: str, cell: Cell, has: str) -> ValueError:
    """Make the error for a cell that a framework does not have."""
    return ValueError(f"cell_or_layer: expected a cell that {form} has ({has}), got {cell}")


def _written(
    form: Form, layer: CellOrLayer, leaves: list[Leaf], params: Any, names: Names
) -> Arrays:
    """The arrays of every leaf under their names."""
    out: Arrays = {}
    own = _walk.parts(layer, params)
    for leaf, place, mine in zip(leaves, form.place(leaves, names), own, strict=True):
        written = _gates.write(form.table(leaf.cell, _own(names, place)), leaf.cell, mine)
        out |= {place.format(name): array for name, array in written.items()}
    return out


def _own(names: Names, place: str) -> Names:
    """The names of one cell's arrays, without what says where it stands."""
    start, _, end = place.partition("{}")
    mine = (name for name in names if name.startswith(start) and name.endswith(end))
    return frozenset(name[len(start) : len(name) - len(end)] for name in mine)


def _input_size(form: Form, layer: CellOrLayer, leaves: list[Leaf], flat: Arrays) -> int:
    """Read the input size off the arrays' shapes."""
    one, two = (
        form.pack(_written(form, layer, leaves, _walk.zeros(layer, size), frozenset(flat)))
        for size in (1, 2)
    )
    came = [flat[name].shape if name in flat else () for name in one]
    return _walk.read_size([a.shape for a in one.values()], [b.shape for b in two.values()], came)
