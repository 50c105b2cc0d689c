"""Choices between trees of arrays whose leaves share their leading axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from seqcells._types import PyTree


def select(where: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Choose between two trees of arrays [*B, ...] by `where` bool[*B].

    A choice, never a product: NaN on the side that is not taken stays there.
    """

    def leaf(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(where.reshape(where.shape + (1,) * (a.ndim - where.ndim)), a, b)

    return jax.tree.map(leaf, yes, no)


def silence(valid: jax.Array | None, tree: PyTree) -> PyTree:
    """Put zeros where padding is; `valid` is bool[*B] for arrays [*B, ...], None for no padding."""
    return tree if valid is None else select(valid, tree, zeros_like(tree))


def zeros_like(tree: PyTree) -> PyTree:
    """Return a tree of zeros."""
    return jax.tree.map(jnp.zeros_like, tree)
