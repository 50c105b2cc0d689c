"""The parallel engine of linear cells: `jax.lax.associative_scan` over (a, b)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Carry, Cell, LinearCell, Params
from seqcells._flags import Flags, select, silence, zeros_like
from seqcells.engines import _platform
from seqcells.engines._engine import Engine


class Span(NamedTuple):
    """What some steps in a row do to a carry h: a * h + b, or nothing, or b whatever h is."""

    a: Carry  # [*B, ...]
    b: Carry  # [*B, ...]
    valid: jax.Array  # bool[*B]; False: padding alone, the carry is held
    restart: jax.Array  # bool[*B]; True: a sequence starts within, and b is all that is left


@dataclasses.dataclass(frozen=True)
class AssociativeScan(Engine):
    """Run all steps of a `LinearCell` at once, in O(log T) parallel rounds.

    Needs memory for every step and about twice the work of `Scan`, which is faster on a CPU.
    """

    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say that the cell is not linear, or return None."""
        return None if isinstance(cell, LinearCell) else "its recurrence is not linear"

    def why_slow(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say that this is a CPU, or return None."""
        return "a CPU is faster step by step" if _platform.platform(xs) == "cpu" else None

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        assert isinstance(cell, LinearCell)
        steps = xs.shape[:-1]
        valid = jnp.ones(steps, bool) if flags.valid is None else flags.valid
        restart = jnp.zeros(steps, bool) if flags.restart is None else flags.restart
        seen = silence(flags.valid, xs)  # what stands in the padding is not
        drive = cell.project(params, seen)
        a, b = cell.coefficients(params, drive, flags.restart)
        a = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), a, b)
        after = jax.tree.map(jnp.add, cell.times(a, flags.fresh), b)
        spans = Span(a, select(restart, after, b), valid, restart)
        whole = jnp.ones(steps[1:], bool)
        start = Span(zeros_like(carry), carry, whole, whole)
        if flags.reverse:
            spans = jax.tree.map(lambda a: jnp.flip(a, axis=0), spans)
        spans = jax.tree.map(lambda one, all: jnp.concatenate([one[None], all]), start, spans)
        joined = jax.lax.associative_scan(lambda one, two: _join(cell, one, two), spans)
        last = jax.tree.map(lambda a: a[-1], joined.b)
        carries = jax.tree.map(lambda a: a[1:], joined.b)
        if flags.reverse:
            carries = jax.tree.map(lambda a: jnp.flip(a, axis=0), carries)
        ys = cell.read(params, carries, drive)
        return last, silence(flags.valid, ys)


def _join(cell: LinearCell, one: Span, two: Span) -> Span:
    """Join two neighbouring spans, batched over any leading axes."""
    cut = two.restart  # nothing before a restart is read, NaN included, in either direction
    a, b = (select(cut, zeros_like(tree), tree) for tree in (one.a, one.b))
    both = (cell.times(two.a, a), jax.tree.map(jnp.add, cell.times(two.a, b), two.b))
    joined = select(two.valid, both, (one.a, one.b))
    a, b = select(one.valid | cut, joined, (two.a, two.b))
    return Span(a, b, one.valid | two.valid, one.restart | cut)
