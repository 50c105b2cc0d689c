"""The parallel engine of linear cells: `jax.lax.associative_scan` over (a, b)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Cell, LinearCell
from seqcells._flags import Flags
from seqcells._model import leading
from seqcells._trees import as_rows, select, sharded_alike, silence, zeros_like
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells.engines import _platform
from seqcells.engines._engine import Engine, open_length


class Span(NamedTuple):
    """The effect of consecutive steps on a carry h: a * h + b, or h unchanged, or b for any h."""

    a: Carry  # [*B, ...]
    b: Carry  # [*B, ...]
    valid: jax.Array  # bool[*B]; False: padding only, the carry is unchanged
    restart: jax.Array  # bool[*B]; True: a sequence starts within the span, so the effect is b


@dataclasses.dataclass(frozen=True)
class AssociativeScan(Engine):
    """Run all steps of a `LinearCell` at once, in O(log T) parallel rounds.

    It stores every step and does about twice the work of `Scan`. On a CPU `Scan` is faster.
    """

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that the cell is not linear or the number of steps is symbolic, or None."""
        if not isinstance(cell, LinearCell):
            return "its recurrence is not linear"
        return "it halves the steps, and their number is symbolic" if open_length(xs) else None

    def why_slow(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that it runs on a CPU, or None."""
        return "a CPU is faster step by step" if _platform.platform(xs) == "cpu" else None

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        if not isinstance(cell, LinearCell):
            raise TypeError(f"cell: expected a LinearCell, got {cell}; use engine=Scan()")
        steps = leading(cell, xs)
        valid = jnp.ones(steps, bool) if flags.valid is None else flags.valid
        restart = jnp.zeros(steps, bool) if flags.restart is None else flags.restart
        seen = silence(flags.valid, xs)
        drive = cell.project(params, seen)
        a, b = cell.coefficients(params, drive, flags.restart)
        a = jax.tree.map(lambda a, b: sharded_alike(jnp.broadcast_to(a, b.shape), b)[0], a, b)
        fresh = jax.tree.map(as_rows, flags.fresh, b)
        after = jax.tree.map(jnp.add, cell.times(a, fresh), b)
        spans = Span(a, select(restart, after, b), valid, restart)
        whole = jnp.ones(steps[1:], bool)
        start = Span(zeros_like(carry), carry, whole, whole)
        if flags.reverse:
            spans = jax.tree.map(lambda a: jnp.flip(a, axis=0), spans)
        spans = jax.tree.map(_prepend, start, spans)
        joined = jax.lax.associative_scan(lambda one, two: _join(cell, one, two), spans)
        last = jax.tree.map(lambda a: a[-1], joined.b)
        carries = jax.tree.map(lambda a: a[1:], joined.b)
        if flags.reverse:
            carries = jax.tree.map(lambda a: jnp.flip(a, axis=0), carries)
        ys = cell.read(params, carries, drive)
        return last, silence(flags.valid, ys)


def _prepend(one: jax.Array, rest: jax.Array) -> jax.Array:
    first, _ = sharded_alike(one[None], rest[:1])
    return jnp.concatenate([first, rest])


def _join(cell: LinearCell, one: Span, two: Span) -> Span:
    """Join two neighbouring spans, batched over any leading axes."""
    cut = two.restart  # steps before a restart have no effect, even if NaN, on values or gradients
    a, b = (select(cut, zeros_like(tree), tree) for tree in (one.a, one.b))
    both = (cell.times(two.a, a), jax.tree.map(jnp.add, cell.times(two.a, b), two.b))
    joined = select(two.valid, both, (one.a, one.b))
    a, b = select(one.valid | cut, joined, (two.a, two.b))
    return Span(a, b, one.valid | two.valid, one.restart | cut)
