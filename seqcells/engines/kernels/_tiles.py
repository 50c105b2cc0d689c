"""One step of a kernel, on a tile: rows of the batch by units of the carry.

These functions work on whole batches too; in plain JAX they are the reference for the kernels. The
equations are those of `seqcells.engines.deferred.tangents`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import SplitCell
from seqcells._linear import wide
from seqcells._trees import select, zeros_like
from seqcells._types import TreeDef
from seqcells.engines.deferred.loops import add, total
from seqcells.engines.deferred.slopes import Row, terms

PADDING, STEP, RESTART = range(3)  # the actions of a row in a step

Leaves = list[jax.Array]
Slopes = tuple[list[Row], list[Row]]  # `by_carry` and `by_mixed`, a row for each leaf of the carry


def dot(
    a: jax.Array,
    b: jax.Array,
    operand: jnp.dtype | None = None,
    precision: jax.lax.PrecisionLike = None,
    units: int | None = None,
) -> jax.Array:
    """Multiply two tiles; the sum is in the dtype of the operands, or in float32.

    Args:
        a: [N, H].
        b: [H, H].
        operand: the dtype of the operands; None keeps their own.
        precision: the precision argument of `jax.lax.dot_general`.
        units: the units of `a` that are not padding. Padding may hold infinities, and infinity
            times a zero of `b` would be NaN.
    """
    if units is not None and units < a.shape[-1]:
        a = jnp.where(jax.lax.broadcasted_iota(jnp.int32, (1, a.shape[-1]), 1) < units, a, 0)
    a, b = (one if operand is None else one.astype(operand) for one in (a, b))
    return jax.lax.dot_general(
        a,
        b,
        dimension_numbers=(((a.ndim - 1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=wide(a.dtype),
    )


class StepSpec(NamedTuple):
    """The static part of a step."""

    cell: SplitCell
    structures: tuple[TreeDef, TreeDef, TreeDef]  # of a carry, a drive and a mixed
    dot: Callable[[jax.Array, jax.Array], jax.Array] = dot  # multiplies a tile by a matrix


class Weights(NamedTuple):
    """The recurrent weights, gate by gate."""

    u: Leaves  # [H, H]
    c: Leaves | None  # [1, H]


def forward(
    spec: StepSpec,
    weights: Weights,
    fresh: Leaves | None,
    carry: Leaves,
    drive: Leaves,
    code: jax.Array | None,
) -> Leaves:
    """Compute the next carry, leaf by leaf.

    Args:
        spec: the cell.
        weights: its recurrent weights.
        fresh: the carry after a restart, [N, H]; None if there is no restart.
        carry: the old carry, [N, H].
        drive: the projected input, [N, H].
        code: int32[N, 1], the action of each row; None if each row takes a step.
    """
    old = carry if fresh is None else select(code == RESTART, fresh, carry)
    mixed = [spec.dot(old[0], u) for u in weights.u]
    if weights.c is not None:
        mixed = list(map(jnp.add, mixed, weights.c))
    pairs = zip(spec.structures, (old, drive, mixed), strict=True)
    new = jax.tree.leaves(spec.cell.gate(*(jax.tree.unflatten(*pair) for pair in pairs)))
    return new if code is None else select(code != PADDING, new, old)


def tangent(
    spec: StepSpec,
    u: Leaves,
    fresh: Leaves | None,
    carry: Leaves,
    drive_tangents: list[Leaves],
    slopes: Slopes,
    code: jax.Array | None,
    *,
    restarts: bool,
) -> Leaves:
    """Compute the tangent of the next carry; `fresh` is None if it has no tangent."""
    old = carry
    if restarts:
        old = select(code == RESTART, zeros_like(carry) if fresh is None else fresh, carry)
    mixed = [spec.dot(old[0], one) for one in u]
    new = [
        total([*term, *terms(by_carry, old), *terms(by_mixed, mixed)], like)
        for term, by_carry, by_mixed, like in zip(drive_tangents, *slopes, carry, strict=True)
    ]
    return new if code is None else select(code != PADDING, new, old)


def cotangent(
    spec: StepSpec,
    u_transposed: Leaves,
    fresh: Leaves | None,
    carry: Leaves,
    slopes: Slopes,
    code: jax.Array | None,
) -> tuple[Leaves, Leaves, Leaves | None]:
    """Compute the cotangent of the old carry: the transpose of `tangent`.

    Args:
        spec: the cell.
        u_transposed: the transposed matrices of its recurrent product.
        fresh: the sum so far of the cotangents of fresh carries; None if it is not needed.
        carry: the cotangent of the new carry.
        slopes: the slopes of the new carry's leaves by those of the old carry and of `mixed`.
        code: int32[N, 1], the action of each row; None if each row takes a step.

    Returns:
        The cotangents of the drive tangents and of the old carry, and the new sum.
    """
    by_carry, by_mixed = (list(zip(*table, strict=True)) for table in slopes)  # columns
    old_terms = [terms(column, carry) for column in by_carry]
    mixed = [add(terms(column, carry)) for column in by_mixed]
    old_terms[0] += [spec.dot(m, u) for ms, u in zip(mixed, u_transposed, strict=True) for m in ms]
    old = list(map(total, old_terms, carry))
    if code is None:
        return carry, old, fresh
    drive = select(code != PADDING, carry, zeros_like(carry))
    old = select(code != PADDING, old, carry)
    if fresh is None:
        return drive, old, None
    cut, zeros = code == RESTART, zeros_like(old)
    sums = list(map(jnp.add, fresh, select(cut, old, zeros)))
    return drive, select(cut, zeros, old), sums
