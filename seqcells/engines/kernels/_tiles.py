"""What a kernel computes of a tile, rows of the batch by units of the carry, in one step.

Everything here works on whole batches too: in plain JAX it is what the kernels must equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import SplitCell
from seqcells._flags import select, zeros_like
from seqcells._linear import wide
from seqcells.engines.deferred.loops import add
from seqcells.engines.deferred.slopes import push

PADDING, STEP, RESTART = range(3)  # what a row does in a step

Leaves = list[jax.Array]
Slopes = list[list[Any]]  # a row for each leaf of the new carry; None where it does not depend


def dot(
    a: jax.Array,
    b: jax.Array,
    operand: Any = None,
    precision: Any = None,
    units: int | None = None,
) -> jax.Array:
    """Multiply two tiles; the sum is in the dtype of the operands, or in float32.

    Args:
        a: [N, H].
        b: [H, H].
        operand: the dtype of the operands; their own where None.
        precision: of the product, as JAX has it.
        units: those of a that are no padding. What is computed in padding may be infinite, and
            times a zero of b it would be NaN.
    """
    if units is not None and units < a.shape[-1]:
        a = jnp.where(jax.lax.broadcasted_iota(jnp.int32, (1, a.shape[-1]), 1) < units, a, 0)
    a, b = (one if operand is None else one.astype(operand) for one in (a, b))
    return jax.lax.dot_general(
        *(a, b, (((a.ndim - 1,), (0,)), ((), ()))),
        precision=precision,
        preferred_element_type=wide(a.dtype),
    )


class Rule(NamedTuple):
    """The static part of a step."""

    cell: SplitCell
    trees: tuple[Any, Any, Any]  # the structures of a carry, a drive and a mixed
    dot: Callable[[jax.Array, Any], jax.Array] = dot  # what multiplies a tile by a matrix


class Weights(NamedTuple):
    """The product of a step, gate by gate."""

    u: Leaves  # [H, H]
    c: Leaves | None  # [1, H]


def forward(
    rule: Rule,
    weights: Weights,
    fresh: Leaves | None,
    carry: Leaves,
    drive: Leaves,
    code: jax.Array | None,
) -> Leaves:
    """Compute the next carry, leaf by leaf.

    Args:
        rule: the cell.
        weights: its product.
        fresh: what a restart takes, [N, H]; None where there is none.
        carry: the old carry, [N, H].
        drive: what `project` made of the input, [N, H].
        code: int32[N, 1], what each row does; None where each takes a step.
    """
    old = carry if fresh is None else select(code == RESTART, fresh, carry)
    mixed = [rule.dot(old[0], u) for u in weights.u]
    if weights.c is not None:
        mixed = list(map(jnp.add, mixed, weights.c))
    trees = zip(rule.trees, (old, drive, mixed), strict=True)
    new = jax.tree.leaves(rule.cell.gate(*(jax.tree.unflatten(*pair) for pair in trees)))
    return new if code is None else select(code != PADDING, new, old)


def tangent(
    rule: Rule,
    u: Leaves,
    fresh: Leaves | None,
    carry: Leaves,
    pushes: list[Leaves],
    slopes: tuple[Slopes, Slopes],
    code: jax.Array | None,
    restarts: bool,
) -> Leaves:
    """Push the tangent of a carry through a step; `fresh` is None where it has no tangent."""
    old = carry
    if restarts:
        old = select(code == RESTART, zeros_like(carry) if fresh is None else fresh, carry)
    mixed = [rule.dot(old[0], one) for one in u]
    new = [
        total([*one, *push(held, old), *push(felt, mixed)], like)
        for one, held, felt, like in zip(pushes, *slopes, carry, strict=True)
    ]
    return new if code is None else select(code != PADDING, new, old)


def cotangent(
    rule: Rule,
    turned: Leaves,
    fresh: Leaves | None,
    carry: Leaves,
    slopes: tuple[Slopes, Slopes],
    code: jax.Array | None,
) -> tuple[Leaves, Leaves, Leaves | None]:
    """Pull the cotangent of a new carry through a step: the transpose of `tangent`.

    Args:
        rule: the cell.
        turned: the transposed matrices of its product.
        fresh: the sums so far of the cotangents of what restarts take; None where there are none.
        carry: the cotangent of the new carry.
        slopes: of the new carry's leaves by those of the old, and of `mixed`.
        code: int32[N, 1], what each row does; None where each takes a step.

    Returns:
        The cotangents of what was pushed and of the old carry, and the new sums.
    """
    held, felt = (list(zip(*table, strict=True)) for table in slopes)  # columns
    pulled = [push(column, carry) for column in held]
    mixed = [add(push(column, carry)) for column in felt]
    pulled[0] += [rule.dot(m, u) for ms, u in zip(mixed, turned, strict=True) for m in ms]
    old = list(map(total, pulled, carry))
    if code is None:
        return carry, old, fresh
    pushes = select(code != PADDING, carry, zeros_like(carry))
    old = select(code != PADDING, old, carry)
    if fresh is None:
        return pushes, old, None
    cut, nothing = code == RESTART, zeros_like(old)
    sums = list(map(jnp.add, fresh, select(cut, old, nothing)))
    return pushes, select(cut, nothing, old), sums


def total(terms: list[jax.Array], like: jax.Array) -> jax.Array:
    """Add up; nothing makes zeros."""
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(like)
