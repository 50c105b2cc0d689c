"""The description of a framework, and the two functions that the file of each framework calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.interop import _arrays, _gates, _walk
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._gates import Table
from seqcells.interop._walk import Leaf, Rules

Names = frozenset[str]  # names of the framework's arrays; empty if we may choose them


def _unchanged(arrays: Arrays) -> Arrays:
    return arrays


def _named(arrays: Arrays, leaves: list[Leaf]) -> Arrays:
    return arrays


class Form(NamedTuple):
    """The properties of a framework that `load` and `dump` need."""

    rules: Rules
    table: Callable[[Cell, Names], Table]  # (cell, array names) -> table, or raises
    place: Callable[[list[Leaf], Names], list[str]]  # a pattern per leaf, such as "{}_l0"
    rename: Callable[[Arrays, list[Leaf]], Arrays] = _named  # from their names to those of `place`
    pack: Callable[[Arrays], Arrays] = _unchanged  # the last step of dump
    unpack: Callable[[Arrays], Arrays] = _unchanged  # its inverse


def load(form: Form, weights: Weights, model: Model) -> Params:
    """Convert a framework's arrays to parameters."""
    leaves = _walk.leaves(form.rules, model)
    for leaf in leaves:
        form.table(leaf.cell, frozenset())  # an unknown cell is reported before a wrong name
    arrays = form.rename(_arrays.flatten(weights), leaves)
    names = frozenset(arrays)
    zeros = _walk.zeros(model, _input_size(form, model, leaves, arrays))
    expected = form.pack(_write(form, model, leaves, zeros, names))
    _arrays.check(f"{model} in {form.rules.name}", arrays, expected)
    arrays = form.unpack(arrays)
    parts = []
    places = form.place(leaves, names)
    for leaf, place, like in zip(leaves, places, _walk.split(model, zeros), strict=True):
        table = form.table(leaf.cell, _at(place, names))
        own = {name: arrays[place.format(name)] for name in _gates.write(table, leaf.cell, like)}
        params = _gates.read(table, leaf.cell, own, like)
        parts.append(jax.tree.map(jnp.array, params))  # copies: the framework may train further
    return _walk.join(model, parts)


def dump(form: Form, model: Model, params: Params, like: Weights | None) -> Arrays:
    """Convert parameters to a framework's arrays, by flat names."""
    leaves = _walk.leaves(form.rules, model)
    size = _walk.check_params(model, params)
    theirs = {} if like is None else _arrays.flatten(like)
    wanted = form.rename(theirs, leaves) if theirs else {}
    names = frozenset(wanted)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(params)):
        raise TypeError("params: expected arrays, got traced ones; call dump outside of jit")
    host = jax.tree.map(np.asarray, params)
    arrays = form.pack(_write(form, model, leaves, host, names))
    if wanted:
        zeros = _walk.zeros(model, size)
        expected = form.pack(_write(form, model, leaves, zeros, names))
        _arrays.check(f"{model} in {form.rules.name}", wanted, expected)
        arrays = {name: arrays[own] for name, own in zip(theirs, wanted, strict=True)}
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def select(form: str, tables: Mapping[type[Cell], Table], cell: Cell, has: str) -> Table:
    """Return the table of a cell, by its exact type, because a subclass may compute something else.

    Raises:
        ValueError: if the framework lacks this cell (`has` lists its cells) or a setting.
    """
    table = tables.get(type(cell))
    if table is None:
        raise ValueError(f"model: expected a cell that {form} has ({has}), got {cell}")
    for need in table.needs:
        if getattr(cell, need.field) not in need.values:
            raise ValueError(f"{need.field}: {table.where} {need.has}, got {cell}")
    return table


def _write(form: Form, model: Model, leaves: list[Leaf], params: Params, names: Names) -> Arrays:
    """Return the arrays of every leaf by name, before packing."""
    arrays: Arrays = {}
    places = form.place(leaves, names)
    for leaf, place, own in zip(leaves, places, _walk.split(model, params), strict=True):
        written = _gates.write(form.table(leaf.cell, _at(place, names)), leaf.cell, own)
        arrays |= {place.format(name): array for name, array in written.items()}
    return arrays


def _at(place: str, names: Names) -> Names:
    """Return the names of the arrays of one cell, without the part for the cell's position."""
    start, _, end = place.partition("{}")
    own = (name for name in names if name.startswith(start) and name.endswith(end))
    return frozenset(name[len(start) : len(name) - len(end)] for name in own)


def _input_size(form: Form, model: Model, leaves: list[Leaf], arrays: Arrays) -> int:
    """Infer the input size from the arrays' shapes."""
    one, two = (
        form.pack(_write(form, model, leaves, _walk.zeros(model, size), frozenset(arrays)))
        for size in (1, 2)
    )
    got = [arrays[name].shape if name in arrays else () for name in one]
    return _walk.read_size([a.shape for a in one.values()], [b.shape for b in two.values()], got)
