"""Affine recurrences y_t = A_t y_{t-1} + b_t for given A_t and b_t: three ways to run one.

A_t is a batch of square blocks [..., K, K], b_t and y_t are columns [..., K, R], and y_{-1} is
zero. Two steps in succession are one step of the same form::

    A_2 (A_1 y + b_1) + b_2 = (A_2 A_1) y + (A_2 b_1 + b_2)

so any span of steps is a pair (A, b), and spans can be joined in any order.

- "sequential" multiplies step by step: T products of a matrix and R columns, one after another.
- "associative" joins spans in a tree: about 2 T products of two matrices, in 2 log2 T rounds.
- "blocked" cuts time into blocks of `BLOCK` steps. It computes the pair of each block, all blocks
  at once; joins the pairs in a tree; then runs the steps of all blocks from the y before each. That
  is about T products of two matrices, in 2 BLOCK + 2 log2(T / BLOCK) rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

BLOCK = 32  # steps
Span = tuple[jax.Array, jax.Array]


def times(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply blocks [..., K, K] by columns [..., K, R], in full precision."""
    if a.shape[-1] == 1:
        return a * b
    return jnp.matmul(a, b, precision="highest")


def join(one: Span, two: Span) -> Span:
    """Return the pair of a span that is followed by another one."""
    return times(two[0], one[0]), times(two[0], one[1]) + two[1]


def sequential(a: jax.Array, b: jax.Array) -> jax.Array:
    """Run the recurrence step by step."""

    def step(y: jax.Array, ab: Span) -> tuple[jax.Array, jax.Array]:
        y = times(ab[0], y) + ab[1]
        return y, y

    return jax.lax.scan(step, b[0] * 0, (a, b))[1]


def associative(a: jax.Array, b: jax.Array) -> jax.Array:
    """Run the recurrence as a tree over all steps."""
    return jax.lax.associative_scan(join, (a, b))[1]


def blocked(a: jax.Array, b: jax.Array) -> jax.Array:
    """Run the recurrence as a tree over blocks of steps."""
    length = len(b)
    size = min(BLOCK, length)

    def cut(c: jax.Array) -> jax.Array:  # [BLOCK, T / BLOCK, ...], zeros at the end
        padded = jnp.pad(c, [(0, -length % size)] + [(0, 0)] * (c.ndim - 1))
        return jnp.swapaxes(padded.reshape(-1, size, *c.shape[1:]), 0, 1)

    a, b = cut(a), cut(b)
    whole = jax.lax.scan(lambda span, ab: (join(span, ab), None), (a[0], b[0]), (a[1:], b[1:]))[0]
    after = associative(*whole)
    before = jnp.concatenate([jnp.zeros_like(after[:1]), after[:-1]])
    first = b.at[0].add(times(a[0], before))
    ys = sequential(a, first)
    return jnp.swapaxes(ys, 0, 1).reshape(-1, *b.shape[2:])[:length]


SCANS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "sequential": sequential,
    "associative": associative,
    "blocked": blocked,
}


def solve(scan: str, a: jax.Array, b: jax.Array, start: jax.Array | None = None) -> jax.Array:
    """Return y_t = A_t y_{t-1} + b_t for all steps.

    Args:
        scan: a name in `SCANS`.
        a: float[T, ..., K, K]; T at least 1.
        b: float[T, ..., K, R], in the dtype of a.
        start: y_{-1}, float[..., K, R]; zero if None.

    Returns:
        float[T, ..., K, R].
    """
    if start is not None:
        b = b.at[0].add(times(a[0], start))
    return SCANS[scan](a, b)
