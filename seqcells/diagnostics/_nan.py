"""Propagation of NaN to derivatives and to shares."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from seqcells._types import PyTree


def nan_slopes(tree: PyTree) -> PyTree:
    """Return a tree of floats whose derivative is NaN where its value is NaN.

    Some functions, such as ReLU, have a slope of 0 at NaN, which would hide the NaN.
    """
    return jax.tree.map(lambda a: a * jnp.where(jnp.isnan(a), a, jnp.ones_like(a)), tree)


def nan_reaches(new: PyTree, old: PyTree, axes: int) -> PyTree:
    """Return a step's carry whose NaN propagate to the derivatives by all inputs of the step.

    Otherwise the slope of ReLU at NaN would be 0, and earlier steps would show no NaN.

    Args:
        new: the carry after the step, [*B, ...].
        old: the inputs of the step, floats [*B, ...].
        axes: the number of axes of *B.
    """

    def own(a: jax.Array) -> tuple[int, ...]:
        return tuple(range(axes, a.ndim))

    spoiled = (jnp.any(jnp.isnan(a), own(a)) for a in jax.tree.leaves(new))
    lost = functools.reduce(jnp.logical_or, spoiled)

    def leaf(a: jax.Array) -> jax.Array:
        slope = jnp.where(lost, jnp.nan, jnp.zeros(lost.shape, a.dtype))
        total = sum(jnp.sum(b.astype(a.dtype), own(b)) for b in jax.tree.leaves(old))
        way = (total * slope).reshape(*lost.shape, *[1] * (a.ndim - axes))
        return jnp.where(jnp.isnan(a), way, a)

    return jax.tree.map(leaf, new)


def share(holds: jax.Array, values: jax.Array) -> jax.Array:
    """Return 1 where a comparison of values holds, else 0, and NaN where the value is NaN."""
    return jnp.where(jnp.isnan(values), values, holds.astype(values.dtype))


def finite(matrix: jax.Array) -> jax.Array:
    """Replace infinities of a matrix by NaN, because LAPACK's SVD does not terminate on them."""
    return jnp.where(jnp.isfinite(matrix), matrix, jnp.nan)
