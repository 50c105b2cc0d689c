"""The Jacobian J_t of every step by the carries before it, in the blocks of a layout.

A split cell, h_t = gate(h_{t-1}, d_t, m_t) with m_t = mix(h_{t-1}), has elementwise slopes H_t and
M_t of its gate by carry and product. If the product is linear in the carry, with a matrix W::

    J_t v = H_t v + M_t (W v)

so W v is computed once for a unit vector v, and not in every step. Other cells push v through every
step, by `jax.jvp`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqcells._cell import Cell, SplitCell
from seqcells._trees import select
from seqcells._types import Carry, Mixed
from seqcells.engines._platform import varying
from seqcells.engines.deferred import slopes
from seqcells.engines.newton.layout import DIAGONAL, ELEMENTWISE, Layout, steps_itself
from seqcells.engines.newton.recurrence import Given, Recurrence

Push = Callable[[jax.Array], jax.Array]  # v, which broadcasts to the carries, -> J_t v


def factored(cell: Cell, layout: Layout, given: Given) -> bool:
    """Whether a step is a product that is linear in the carry, and a gate that is elementwise.

    All leaves of the carry and of the product must have an entry for each unit, along one axis.
    """
    if layout.kind == ELEMENTWISE or steps_itself(cell) or not isinstance(cell, SplitCell):
        return False
    if cell.why_not_split() is not None or type(cell).next_carry is not Cell.next_carry:
        return False
    if any(len(shape) != 1 for shape in layout.shapes):
        return False
    carry, drive = layout.unflatten(given.start), jax.tree.map(lambda a: a[0], given.drive)
    mixed = jax.eval_shape(cell.mix, given.params, carry)
    if len({leaf.shape for leaf in jax.tree.leaves((carry, mixed))}) > 1:
        return False
    try:
        slopes.dependence(cell.gate, carry, drive, mixed)
    except slopes.NotElementwiseError:
        return False
    return slopes.is_affine(lambda carry: cell.mix(given.params, carry), carry)


def blocks(recurrence: Recurrence, given: Given, before: jax.Array) -> jax.Array:
    """Return the blocks of J_t for all steps.

    For layouts whose blocks are exact this is K Jacobian-vector products, each with a one at the
    same place of all blocks. For the diagonal it is S of them, one after another, of each of which
    one entry is kept; or none, if the recurrence is `factored`.

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
    if recurrence.factored:
        return _Gates(recurrence, given, before).diagonal()[..., None]
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


def _push(recurrence: Recurrence, given: Given, before: jax.Array) -> Push:
    if recurrence.factored:
        return _Gates(recurrence, given, before).push

    def push(tangent: jax.Array) -> jax.Array:
        tangent = varying(jnp.broadcast_to(tangent, before.shape), before)
        return jax.jvp(lambda h: recurrence.all(given, h), (before,), (tangent,))[1]

    return push


class _Gates:
    """The slopes of a split cell's gate in all steps, and its product."""

    def __init__(self, recurrence: Recurrence, given: Given, before: jax.Array) -> None:
        cell = recurrence.cell
        assert isinstance(cell, SplitCell)  # for the type checker: `factored` checked it
        self.cell, self.given, self.layout = cell, given, recurrence.layout
        self.params, self.like = recurrence.narrow(given.params), before
        carry = self.layout.unflatten(before)
        if given.restart is not None:
            fresh = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), given.fresh, carry)
            carry = select(given.restart, fresh, carry)
        with jax.default_matmul_precision("highest"):
            args, structure = jax.tree.flatten((carry, cell.mix(self.params, carry)))
        self.slopes = []  # for each leaf of the carry and of the product, by it: [T, *B, H] each
        for place, leaf in enumerate(args):

            def of_one(one: jax.Array, place: int = place) -> list[jax.Array]:
                old, mixed = structure.unflatten([*args[:place], one, *args[place + 1 :]])
                return jax.tree.leaves(cell.gate(old, given.drive, mixed))

            self.slopes.append(jax.jvp(of_one, (leaf,), (jnp.ones_like(leaf),))[1])

    def push(self, tangent: jax.Array) -> jax.Array:
        """Return J_t times a tangent that broadcasts to the carries."""
        carry = self.layout.unflatten(tangent)
        pairs = list(zip(self.slopes, jax.tree.leaves((carry, self._mixed(carry))), strict=True))
        leaves = [sum(by[i] * t for by, t in pairs) for i in range(len(self.layout.shapes))]
        new = jax.tree.unflatten(self.layout.structure, leaves)
        return self._flagged(self.layout.flatten(new), tangent)

    def diagonal(self) -> jax.Array:
        """Return the diagonal of J_t, [T, *B, S, 1]."""
        size, count = self.like.shape[-2], len(self.layout.shapes)
        ones = self.layout.unflatten(_ones(self.like))  # of each unit vector
        # [L, H, ..., H] for L leaves: the product of the unit vectors of one leaf after another
        products = [a.reshape(count, -1, *a.shape[1:]) for a in jax.tree.leaves(self._mixed(ones))]
        own = [jnp.einsum("lu...u->l...u", a) for a in products]
        parts = []
        for i in range(count):
            by_mixed = (s[i] * m[i] for s, m in zip(self.slopes[count:], own, strict=True))
            parts.append(sum(by_mixed, self.slopes[i][i]))
        new = self.layout.flatten(jax.tree.unflatten(self.layout.structure, parts))
        return self._flagged(new, jnp.ones((size, 1), self.like.dtype))

    def _mixed(self, carry: Carry) -> Mixed:
        """Return the product's tangent by a tangent of the carry, which is the same everywhere."""

        def mix(carry: Carry) -> Mixed:
            return self.cell.mix(self.params, carry)

        with jax.default_matmul_precision("highest"):
            return jax.jvp(mix, (carry,), (carry,))[1]

    def _flagged(self, new: jax.Array, held: jax.Array) -> jax.Array:
        """Return zero after a restart, and what is held at padding."""
        valid, restart = self.given.valid, self.given.restart
        new = new if restart is None else jnp.where(restart[..., None, None], 0, new)
        return new if valid is None else jnp.where(valid[..., None, None], new, held)


def _ones(before: jax.Array) -> jax.Array:
    """Return the unit vectors of a carry [S, 1, ..., S, 1] that broadcast to [T, *B, S, 1]."""
    size = before.shape[-2]
    ones = jnp.eye(size, dtype=before.dtype)[..., None]
    return jnp.expand_dims(ones, tuple(range(1, before.ndim - 1)))
