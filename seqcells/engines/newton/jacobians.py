"""The Jacobian J_t of every step by the carries before it, in the blocks of a layout."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from seqcells.engines._platform import varying
from seqcells.engines.newton.layout import DIAGONAL
from seqcells.engines.newton.recurrence import Given, Recurrence


def blocks(recurrence: Recurrence, given: Given, before: jax.Array) -> jax.Array:
    """Return the blocks of J_t for all steps.

    For layouts whose blocks are exact this is K Jacobian-vector products, each with a one at the
    same place of all blocks. For the diagonal it is S of them, one after another, of each of which
    one entry is kept.

    Args:
        recurrence: the recurrence.
        given: what determines the carries.
        before: the carries before each step, float[T, *B, U, K].

    Returns:
        float[T, *B, U, K, K], rows after the step, columns before it.
    """
    if recurrence.layout.kind != DIAGONAL:
        ones = jnp.eye(before.shape[-1], dtype=before.dtype)
        push = jax.vmap(_push(recurrence, given, before), out_axes=-1)
        return push(jnp.expand_dims(ones, tuple(range(1, before.ndim))))
    push = _push(recurrence, given, before)

    def entry(one: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(one == 1, push(one), 0), axis=(-2, -1))

    entries = jax.lax.map(entry, _ones(before))  # [S, T, *B]
    return jnp.moveaxis(entries, 0, -1)[..., None, None]


def row_sums(recurrence: Recurrence, given: Given, before: jax.Array) -> jax.Array:
    """Return the largest absolute row sum of each J_t, float[T, *B, 1, 1, 1].

    Its columns are computed one after another, and not kept.
    """
    push = _push(recurrence, given, before)

    def add(sums: jax.Array, one: jax.Array) -> tuple[jax.Array, None]:
        return sums + jnp.abs(push(one)), None

    sums = jax.lax.scan(add, before * 0, _ones(before))[0]
    return jnp.max(sums, axis=(-2, -1))[..., None, None, None]


def _push(recurrence: Recurrence, given: Given, before: jax.Array):
    """Return the function from a tangent that broadcasts to `before` to J_t times it."""

    def push(tangent: jax.Array) -> jax.Array:
        tangent = varying(jnp.broadcast_to(tangent, before.shape), before)
        return jax.jvp(lambda h: recurrence.all(given, h), (before,), (tangent,))[1]

    return push


def _ones(before: jax.Array) -> jax.Array:
    """Return the unit vectors of a carry [S, 1, ..., S, 1] that broadcast to [T, *B, S, 1]."""
    size = before.shape[-2]
    ones = jnp.eye(size, dtype=before.dtype)[..., None]
    return jnp.expand_dims(ones, tuple(range(1, before.ndim - 1)))
