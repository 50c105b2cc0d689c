"""The cells within a layer: which of them a framework can express, and their positions."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from seqcells import _check
from seqcells._cell import Cell
from seqcells._model import Model, known_shapes
from seqcells._trees import same_shapes
from seqcells._types import Params, Shape
from seqcells.layers import Bidirectional, Both, Recurrent, Stack


class Leaf(NamedTuple):
    """A cell, and its position in a layer."""

    cell: Cell
    layer: int | None = None  # its number in a Stack
    direction: str = ""  # "forward" or "backward" in a Bidirectional
    reverse: bool = False  # whether it is a Recurrent(reverse=True) outside of a Bidirectional
    bare: bool = True  # not in a layer: the framework's cell, not its layer


class Rules(NamedTuple):
    """The layers that a framework has."""

    name: str
    merges: tuple[str, ...] | None = None  # merges of a Bidirectional; None for any
    reverse: bool = True  # whether a layer may read from the end and keep the order of outputs
    alike: str = ""  # the cells that must have equal settings: those of a "stack" or of a "layer"
    unlike: tuple[str, ...] = ()  # settings in which these cells may differ


def leaves(rules: Rules, model: Model) -> list[Leaf]:
    """Return the cells of a model in order.

    Raises:
        ValueError: if the framework has no such layer.
    """
    if not isinstance(model, Stack):
        cells = _directions(rules, model)
    else:
        if model.skip:
            raise ValueError(f"skip: {rules.name} has no such order of features, got {model}")
        cells = [
            leaf._replace(layer=i, bare=False)
            for i, part in enumerate(model.layers)
            for leaf in _directions(rules, part)
        ]
    if not rules.reverse and any(leaf.reverse for leaf in cells):
        raise ValueError(
            f"reverse: {rules.name} has no layer that reads from the end and keeps the order of "
            f"its outputs, got {model}; convert only the cell, or a Bidirectional"
        )
    _check_alike(rules, model, cells)
    return cells


def _directions(rules: Rules, model: Model) -> list[Leaf]:
    """Return the one or two cells of a layer that is not a Stack."""
    if isinstance(model, Cell):
        return [Leaf(model)]
    if isinstance(model, Bidirectional):
        if rules.merges is not None and model.merge not in rules.merges:
            has = " or ".join(map(repr, rules.merges)) or "no Bidirectional at all"
            raise ValueError(f"merge: {rules.name} has {has}, got {model}")
        return [
            _recurrent(rules, part)._replace(direction=direction, reverse=False)
            for part, direction in zip(model.ways, Both._fields, strict=True)
        ]
    return [_recurrent(rules, model)]


def _recurrent(rules: Rules, model: Model) -> Leaf:
    if not isinstance(model, Recurrent):
        wanted = "a cell, Recurrent, Bidirectional or a Stack of these"
        raise ValueError(f"model: expected {wanted} for {rules.name}, got {model!r}")
    if model.learned_carry:
        raise ValueError(f"learned_carry: {rules.name} has no place for it, got {model}")
    return Leaf(model.cell, reverse=model.reverse, bare=False)


def _check_alike(rules: Rules, model: Model, cells: list[Leaf]) -> None:
    """Raise if cells differ that share their settings in the framework."""
    groups: dict[int | None, list[Leaf]] = {}
    for leaf in cells:
        groups.setdefault(leaf.layer, []).append(leaf)
    if rules.alike == "stack":
        if len({len(group) for group in groups.values()}) > 1:
            raise ValueError(f"layers: {rules.name} has one or two directions in all, got {model}")
        groups = {None: cells}
    for group in groups.values() if rules.alike else ():
        if len({_settings(leaf.cell, rules.unlike) for leaf in group}) > 1:
            raise ValueError(
                f"layers: {rules.name} has equal cells in a {rules.alike}, got {model}"
            )


def _settings(cell: Cell, unlike: tuple[str, ...]) -> tuple[object, ...]:
    """Return the settings that a framework has for a cell: all but initialisers and dtypes."""
    fields = dataclasses.fields(cell) if dataclasses.is_dataclass(cell) else ()
    ends = ("_init", "dtype", *unlike)
    names = (field.name for field in fields if not field.name.endswith(ends))
    return type(cell), *(getattr(cell, name) for name in names)


def split(model: Model, params: Params) -> list[Params]:
    """Return the parameters of each leaf, in the order of `leaves`."""
    if isinstance(model, Stack):
        return [p for part, own in zip(model.layers, params, strict=True) for p in split(part, own)]
    return list(params) if isinstance(model, Bidirectional) else [params]


def join(model: Model, parts: list[Params]) -> Params:
    """Undo `split`; takes the parts from the front of the list."""
    if isinstance(model, Stack):
        return tuple(join(part, parts) for part in model.layers)
    return Both(parts.pop(0), parts.pop(0)) if isinstance(model, Bidirectional) else parts.pop(0)


def zeros(model: Model, input_size: int) -> Params:
    """Return parameters that are all zero, NumPy arrays."""
    return jax.tree.map(lambda a: np.zeros(a.shape, np.float32), known_shapes(model, input_size))


def check_params(model: Model, params: Params) -> int:
    """Return the input size of parameters.

    The input size is the first axis of some array, or the last one where inputs are added to a
    product, so these axes of each array are tried in turn.

    Raises:
        ValueError: if the parameters do not belong to this model.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    first = None
    for size in dict.fromkeys([*(shape[axis] for axis in (0, -1) for shape in shapes if shape), 1]):
        try:
            expected = known_shapes(model, size)
        except ValueError:
            continue  # a Residual accepts a single input size
        if same_shapes(params, expected):
            return size
        first = first or expected
    wanted = "others" if first is None else _check.describe(first)
    raise ValueError(f"params: {model} expects {wanted}, got {_check.describe(params)}")


def read_size(one: list[Shape], two: list[Shape], got: list[Shape]) -> int:
    """Infer the input size from the first axis whose length depends on it.

    Args:
        one: the shapes for an input size of 1.
        two: the shapes for an input size of 2.
        got: the shapes for the unknown input size; () where an array is missing.

    Returns:
        The input size, or 1 if no axis depends on it; `got` is then wrong anyway.
    """
    for small, large, shape in zip(one, two, got, strict=False):
        for axis, (a, b) in enumerate(zip(small, large, strict=True)):
            if a != b and len(shape) == len(small):
                return max(0, shape[axis] - a + 1)
    return 1
