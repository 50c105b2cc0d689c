"""Cells within layers: what a framework has of them, and where each one stands."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from seqcells import _check
from seqcells._cell import Cell, known_shapes
from seqcells.layers import Bidirectional, Both, Layer, Recurrent, Stack

CellOrLayer = Cell | Layer


class Leaf(NamedTuple):
    """A cell, and where in a layer it stands."""

    cell: Cell
    layer: int | None = None  # its number in a Stack
    way: str = ""  # "forward" or "backward" in a Bidirectional
    reverse: bool = False  # in a Recurrent alone
    bare: bool = True  # in no layer: the framework's cell, not its layer


class Rules(NamedTuple):
    """What layers a framework has."""

    name: str
    merges: tuple[str, ...] | None = None  # of a Bidirectional; None for any
    reverse: bool = True  # whether a layer may read from the end and keep the order of outputs
    alike: str = ""  # cells that must be equal in kind: all in a "stack", or those in a "layer"


_KIND = ("hidden_size", "reset_after", "bias", "activation", "peepholes")


def leaves(rules: Rules, layer: CellOrLayer) -> list[Leaf]:
    """Return the cells of a layer in order.

    Raises:
        ValueError: where the framework has no such layer.
    """
    if not isinstance(layer, Stack):
        found = _ways(rules, layer)
    else:
        if layer.skip:
            raise ValueError(f"skip: {rules.name} has no such order of features, got {layer}")
        found = [
            leaf._replace(layer=i, bare=False)
            for i, part in enumerate(layer.layers)
            for leaf in _ways(rules, part)
        ]
    if not rules.reverse and any(leaf.reverse for leaf in found):
        raise ValueError(
            f"reverse: {rules.name} has no layer that reads from the end and keeps the order of "
            f"its outputs, got {layer}; convert the cell alone, or a Bidirectional"
        )
    _check_alike(rules, layer, found)
    return found


def _ways(rules: Rules, layer: Any) -> list[Leaf]:
    """The cells of what is no Stack."""
    if isinstance(layer, Cell):
        return [Leaf(layer)]
    if isinstance(layer, Bidirectional):
        if rules.merges is not None and layer.merge not in rules.merges:
            has = " or ".join(map(repr, rules.merges)) or "no Bidirectional at all"
            raise ValueError(f"merge: {rules.name} has {has}, got {layer}")
        two = zip(layer.ways, Both._fields, strict=True)
        return [_one(rules, part)._replace(way=way, reverse=False) for part, way in two]
    return [_one(rules, layer)]


def _one(rules: Rules, layer: Any) -> Leaf:
    if not isinstance(layer, Recurrent):
        wanted = "a cell, Recurrent, Bidirectional or a Stack of these"
        raise ValueError(f"cell_or_layer: expected {wanted} for {rules.name}, got {layer!r}")
    if layer.learned_carry:
        raise ValueError(f"learned_carry: {rules.name} has no place for it, got {layer}")
    return Leaf(layer.cell, reverse=layer.reverse, bare=False)


def _check_alike(rules: Rules, layer: CellOrLayer, found: list[Leaf]) -> None:
    """Raise where cells differ that are one in the framework."""
    groups: dict[int | None, list[Leaf]] = {}
    for leaf in found:
        groups.setdefault(leaf.layer, []).append(leaf)
    if rules.alike == "stack":
        if len({len(group) for group in groups.values()}) > 1:
            raise ValueError(f"layers: {rules.name} has one or two directions in all, got {layer}")
        groups = {None: found}
    for group in groups.values() if rules.alike else ():
        kinds = {(type(a.cell), *(getattr(a.cell, k, None) for k in _KIND)) for a in group}
        if len(kinds) > 1:
            raise ValueError(
                f"layers: {rules.name} has equal cells in a {rules.alike}, got {layer}"
            )


def parts(layer: CellOrLayer, params: Any) -> list[Any]:
    """Return the parameters of each leaf, in the order of `leaves`."""
    if isinstance(layer, Stack):
        return [p for part, own in zip(layer.layers, params, strict=True) for p in parts(part, own)]
    return list(params) if isinstance(layer, Bidirectional) else [params]


def whole(layer: CellOrLayer, found: list[Any]) -> Any:
    """Undo `parts`; takes from the front of the list."""
    if isinstance(layer, Stack):
        return tuple(whole(part, found) for part in layer.layers)
    return Both(found.pop(0), found.pop(0)) if isinstance(layer, Bidirectional) else found.pop(0)


def zeros(layer: CellOrLayer, input_size: int) -> Any:
    """Return parameters that are zero, NumPy arrays."""
    return jax.tree.map(lambda a: np.zeros(a.shape, np.float32), known_shapes(layer, input_size))


def check_params(layer: CellOrLayer, params: Any) -> int:
    """Return the input size of parameters, or raise a ValueError unless they are this layer's.

    The size is the first axis of some array, so those are tried, that of the first array first.
    """
    came = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    expected = None
    for size in dict.fromkeys([*(shape[0] for shape in came if shape), 1]):
        try:
            made = known_shapes(layer, size)
        except ValueError:
            continue  # a Residual takes one size alone
        if _check.same_shapes(params, made):
            return size
        expected = expected or made
    wanted = "others" if expected is None else _check.describe(expected)
    raise ValueError(f"params: {layer} expects {wanted}, got {_check.describe(params)}")


def read_size(
    one: list[tuple[int, ...]], two: list[tuple[int, ...]], came: list[tuple[int, ...]]
) -> int:
    """Read the input size off the first axis whose length depends on it.

    Args:
        one: the shapes for an input size of 1.
        two: those for 2.
        came: the shapes whose input size is asked for; () where an array is missing.

    Returns:
        The input size, or 1 where it cannot be told: then `came` is wrong anyway.
    """
    for a, b, shape in zip(one, two, came, strict=False):
        for axis, (small, large) in enumerate(zip(a, b, strict=True)):
            if small != large and len(shape) == len(a):
                return max(0, shape[axis] - small + 1)
    return 1
