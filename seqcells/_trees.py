"""Trees of arrays: choices between them, zeros, and what a loop closes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.core import Tracer

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


def closed_over(tree: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Return what a loop should close over in place of a tree, and how the loop gets the tree back.

    JAX adds up the gradient of what a loop closes over step by step, in its dtype, and in bfloat16
    a sum of ones stops at 256. So leaves narrower than float32 are held in float32, and cast back
    within the loop: values keep their bits, and gradients are added in float32. Without such
    leaves the tree is held as it is.
    """
    if not any(map(_is_narrow, jax.tree.leaves(tree))):
        return tree, lambda held: held
    held = jax.tree.map(lambda a: a.astype(jnp.float32) if _is_narrow(a) else a, tree)
    return held, lambda held: jax.tree.map(
        lambda a, own: a.astype(own.dtype) if _is_narrow(own) else a, held, tree
    )


def _is_narrow(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def distinct(tree: PyTree) -> PyTree:
    """Copy an array that stands in a tree twice: one buffer cannot be donated twice.

    Within `jit` nothing changes: XLA gives every output a buffer of its own.
    """
    seen = set()

    def once(leaf: PyTree) -> PyTree:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        again = id(leaf) in seen
        seen.add(id(leaf))
        return leaf.copy() if again else leaf

    return jax.tree.map(once, tree)


def zeros_like(tree: PyTree) -> PyTree:
    """Return a tree of zeros."""
    return jax.tree.map(jnp.zeros_like, tree)
