"""Helpers of layers with several parts."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model
from seqcells._types import Outputs, PyTree

Merge = Callable[..., Outputs]  # of arrays [*lead, H], as many as there are parts

MERGES: dict[str, Merge] = {
    "concat": lambda *ys: jnp.concatenate(ys, axis=-1),
    "sum": lambda *ys: functools.reduce(operator.add, ys),
    "mean": lambda *ys: functools.reduce(operator.add, ys) / len(ys),
    "mul": lambda *ys: functools.reduce(operator.mul, ys),
}


def merged(merge: str | Merge, outputs: Mapping[str, Outputs], lead: Sequence[int]) -> Outputs:
    """Merge the outputs of parts, or raise.

    Args:
        merge: a name in `MERGES`, or a function of the outputs.
        outputs: what each part puts out, by the name of the part.
        lead: the sizes of the axes before the features.
    """
    shape = ", ".join(map(str, lead))
    for part, ys in outputs.items():
        if isinstance(merge, str) and not getattr(ys, "ndim", 0) > len(lead):
            raise ValueError(
                f"{part}: expected outputs float[{shape}, H], which {merge!r} can merge, got "
                f"{_check.describe(ys)}"
            )
    if isinstance(merge, str):
        if merge != "concat" and len({jnp.shape(ys) for ys in outputs.values()}) > 1:
            got = " and ".join(_check.describe(ys) for ys in outputs.values())
            raise ValueError(
                f"merge: expected outputs of one shape for {merge!r}, got {got}; give the parts "
                'equal sizes, or merge="concat"'
            )
        return MERGES[merge](*outputs.values())
    ys = merge(*outputs.values())
    for leaf in jax.tree.leaves(ys):
        if leaf.shape[: len(lead)] != tuple(lead) or leaf.ndim == len(lead):
            raise ValueError(
                f"merge: expected a function that returns float[{shape}, ...], got "
                f"{_check.describe(ys)} of {_check.describe(tuple(outputs.values()))}"
            )
    return ys


def parts(name: str, tree: PyTree, count: int, layer: Layer) -> tuple[PyTree, ...]:
    """Return the entries of `tree`, one for each part of a layer; if it is None, None for each."""
    if tree is None:
        return (None,) * count
    if not isinstance(tree, (tuple, list)) or len(tree) != count:
        got = len(tree) if isinstance(tree, (tuple, list)) else type(tree).__name__
        raise ValueError(f"{name}: expected a tuple of {count} for {layer}, got {got}")
    return tuple(tree)


def split(key: jax.Array | None, count: int) -> list[jax.Array] | list[None]:
    """Return a key for each part, or None for each if there is no key."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def settle_layers(layers: object) -> tuple[Model, ...]:
    """Return the argument `layers` as a tuple, or raise unless it holds layers and cells."""
    if not isinstance(layers, (tuple, list)) or not layers:
        raise TypeError(f"layers: expected a tuple of layers or cells, got {layers!r}")
    for layer in layers:
        _check.instance("layers", layer, (Layer, Cell), "Recurrent(GRU(64))")
    return tuple(layers)
