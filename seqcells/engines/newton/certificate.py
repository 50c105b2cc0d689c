"""How far a solution may be off: the residual, and how much errors of single steps grow.

Let h be the carries that were found, F their residual and h* the exact ones. To first order in F,

    h* - h = L^-1 (-F),    (L v)_t = v_t - J_t v_{t-1},    so v = L^-1 b is v_t = J_t v_{t-1} + b_t

`certify` solves this recurrence for several b at once, in full precision:

- b = -F: the last correction, which is added to h if the residual stays small.
- b = 1 with |J_t|, the absolute values of the entries: g_t = |J_t| g_{t-1} + 1. Entry by entry,
  |L^-1 b| <= g max|b|. So max g times the residual is a bound of the error, to first order.
- b = random signs: max|L^-1 b| is a lower bound of the largest growth, and mostly near it.
- b = random signs at few steps, and else 0: |L^-1 b| shows how far an error of one step grows.
  Where it grows much, the net is chaotic: Newton and a scan then differ by what rounding makes of
  both. Errors of many steps add up in a net that remembers, too, but there each stays small. Since
  rounding errors are relative, both b and L^-1 b are measured in units of the largest number of
  each leaf of the carry so far.

The entries of F are themselves known up to rounding, so the residual counts as at least `ROUNDING`
times that of a step. At padding the carries are held exactly, and b is 0.

Time may be cut into chunks. v and g continue in the next chunk, so that the result is that of one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._static import exported
from seqcells._trees import select, silence
from seqcells._types import Shape
from seqcells.engines._platform import varying
from seqcells.engines.newton import linear
from seqcells.engines.newton.iteration import Iterate, Solver, largest
from seqcells.engines.newton.layout import Layout
from seqcells.engines.newton.recurrence import Given

SIGNS = 4  # vectors of random signs; of each there is one with signs at two steps alone
EXPANSION = 2  # of an error of one step: with more, a net counts as chaotic
ROUNDING = 4  # times the rounding error of a step: what is not seen in a residual


@exported
class NewtonReport(NamedTuple):
    """What Newton's method reached for each sequence.

    The numbers are those of Newton's own carries, also where `on_fail` replaced them.
    """

    converged: jax.Array  # bool[*B]
    iterations: jax.Array  # int32[*B], the sum over chunks
    residual: jax.Array  # float[*B], the largest |h_t - f_t(h_{t-1})|
    error_bound: jax.Array  # float[*B], of the error of the carries, to first order
    error_estimate: jax.Array  # float[*B], of the same; it may be too small


class Progress(NamedTuple):
    """What is known of the chunks so far."""

    signs: jax.Array  # float[*B, U, K, 2 SIGNS], v of the last step
    scale: jax.Array  # float[*B, U, K], the largest |h| of each leaf
    bound: jax.Array  # float[*B, U or 1, K or 1, 1], g of the last step
    growth: jax.Array  # float[*B], the largest |v| for signs at all steps
    expansion: jax.Array  # float[*B], the largest rms of v / scale for signs at few steps
    most_growth: jax.Array  # float[*B], the largest g
    size: jax.Array  # float[*B], the largest |h|
    solved: jax.Array  # bool[*B], whether all residuals were small
    iterations: jax.Array  # int32[*B]
    residual: jax.Array  # float[*B]


def draw_signs(steps: int, units: Shape, dtype: jnp.dtype) -> jax.Array:
    """Draw the random signs of all steps, [T, U, K, 2 SIGNS]; the same for all sequences.

    The first half has signs at all steps; vector j of the second at j / 8 and j / 8 + 1 / 2 of T.
    """
    signs = jax.random.rademacher(jax.random.key(0), (steps, *units, SIGNS), dtype)
    half = max(-(-steps // 2), 1)
    first = jnp.arange(SIGNS) * half // SIGNS
    few = (jnp.arange(steps) % half)[:, None, None, None] == first
    return jnp.concatenate([signs, jnp.where(few, signs, jnp.zeros_like(signs))], axis=-1)


def begin(solver: Solver, given: Given) -> Progress:
    """Return what is known before the first chunk."""
    zero = jnp.zeros_like(given.start[..., 0, 0])
    signs = jnp.repeat(jnp.zeros_like(given.start)[..., None], 2 * SIGNS, axis=-1)
    exact = solver.recurrence.layout.exact
    bound = signs[..., :1] if exact else signs[..., :1, :1, :1]
    none = Progress(
        signs=signs,
        scale=jnp.zeros_like(given.start),
        bound=bound,
        **dict.fromkeys(("growth", "expansion", "most_growth", "size", "residual"), zero),
        solved=zero == 0,
        iterations=zero.astype(jnp.int32),
    )
    return varying(none, given)


def certify(
    solver: Solver, given: Given, found: Iterate, signs: jax.Array, past: Progress
) -> tuple[jax.Array, jax.Array, Progress]:
    """Correct the carries of a chunk a last time, and add what they show to the certificate.

    Args:
        solver: the method.
        given: what determines the carries.
        found: the carries that the method found.
        signs: the random signs, [T, U, K, 2 SIGNS].
        past: what the chunks before have shown.

    Returns:
        The carries, whether each sequence of the chunk has converged, bool[*B], and what is known.
    """
    lead, layout = found.carries.shape[:-2], solver.recurrence.layout
    one = silence(given.valid, jnp.ones_like(found.defect[..., None]))
    rows = one * jnp.expand_dims(signs, tuple(range(1, len(lead))))
    scales, scale = _scales(layout, found.carries, past.scale)
    every, few = jnp.split(rows, 2, axis=-1)
    b = jnp.concatenate([found.defect[..., None], every, few * scales[..., None]], axis=-1)
    start = jnp.concatenate([jnp.zeros_like(past.signs[..., :1]), past.signs], axis=-1)
    v, g = linear.solve(solver, given, found.carries, (b, start), (one, past.bound))
    last = solver.at(given, found.carries + v[..., 0], found.iterations)
    small = (found.residual <= solver.limit(found.carries)) & (
        last.residual <= solver.limit(last.carries)
    )
    steps = jnp.broadcast_to(small, lead)
    carries = select(steps, last.carries, found.carries)
    residual = jnp.where(small, last.residual, found.residual)
    solved = residual <= solver.limit(carries)
    relative = v[..., 1 + SIGNS :] / scales[..., None]
    now = Progress(
        signs=v[-1, ..., 1:],
        scale=scale,
        bound=g[-1],
        growth=jnp.maximum(past.growth, _largest(v[..., 1 : 1 + SIGNS])),
        expansion=jnp.maximum(past.expansion, _largest(_size(relative))),
        most_growth=jnp.maximum(past.most_growth, _largest(g)),
        size=jnp.maximum(past.size, largest(carries)),
        solved=past.solved & solved,
        iterations=past.iterations + found.iterations,
        residual=jnp.maximum(past.residual, residual),
    )
    return carries, solved & _steady(now), now


def report(solver: Solver, known: Progress) -> NewtonReport:
    """Return the certificate of all chunks."""
    rounding = ROUNDING * solver.eps * jnp.maximum(known.size, 1)
    off = jnp.maximum(known.residual, rounding)
    return NewtonReport(
        converged=known.solved & _steady(known),
        iterations=known.iterations,
        residual=known.residual,
        error_bound=_product(off, known.most_growth),
        error_estimate=_product(off, known.growth),
    )


def _steady(known: Progress) -> jax.Array:
    """Whether an error of one step stays small, so that Newton and a scan agree."""
    return known.expansion <= EXPANSION


def _scales(layout: Layout, carries: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the size of each leaf of the carry at every step, and at the last, for its numbers.

    Sizes are those so far, so that chunks do not change them.
    """

    def size(leaf: jax.Array, shape: Shape) -> jax.Array:
        axes = tuple(range(leaf.ndim - len(shape), leaf.ndim))
        return jnp.broadcast_to(jnp.max(jnp.abs(leaf), axis=axes, keepdims=True), leaf.shape)

    leaves = jax.tree.leaves(layout.unflatten(carries))
    sizes = [size(leaf, shape) for leaf, shape in zip(leaves, layout.shapes, strict=True)]
    own = layout.flatten(jax.tree.unflatten(layout.structure, sizes))
    sizes = jax.lax.cummax(jnp.concatenate([past[None], own]))[1:]
    return jnp.where(sizes > 0, sizes, 1), sizes[-1]


def _size(v: jax.Array) -> jax.Array:
    """Return the root mean square of each carry of v [T, *B, U, K, R], [T, *B, 1, 1, R]."""
    return jnp.sqrt(jnp.mean(v * v, axis=(-3, -2), keepdims=True))


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply; infinity times 0 is infinite."""
    return jnp.where(jnp.isinf(a) | jnp.isinf(b), jnp.inf, a * b)


def _largest(v: jax.Array) -> jax.Array:
    """Return the largest absolute value of each sequence of v [T, *B, U, K, R]."""
    return largest(v.reshape(*v.shape[:-2], -1))
