"""Helpers of layers with several parts."""

from __future__ import annotations

import jax

from seqcells._layer import Layer
from seqcells._types import PyTree


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
