"""The engine of matrix memories: chunks of steps by matrix products, one chunk after another."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell, ChunkCell
from seqcells._flags import Flags
from seqcells._model import leading
from seqcells._trees import closed_over, select, silence
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells.engines._engine import Engine, open_length
from seqcells.engines.scan import Scan, in_chunks

LEAST = 64  # steps: with fewer, training gains little, and the forward pass loses


@dataclasses.dataclass(frozen=True)
class Chunkwise(Engine):
    """Run `size` steps of a `ChunkCell` at once, by matrix products, and chunk after chunk.

    It computes what `Scan` computes, with every flag. A derivative recomputes each chunk from the
    carry before it, so training stores T / size carries, and not T. Within a chunk, work and memory
    grow with the square of its size.

    Args:
        size: steps per chunk, at least 1; it need not divide T.

    Raises:
        ValueError: on a size below 1.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RetNet(4)
    >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((10, 3))
    >>> _, ys = sc.unroll(cell, params, xs, engine=sc.Chunkwise(4))
    >>> bool(jnp.allclose(ys, sc.unroll(cell, params, xs, engine=sc.Scan())[1], atol=1e-5))
    True
    """

    size: int = 32

    def __post_init__(self) -> None:
        _check.size("size", self.size, least=1)

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that the cell takes step by step or the number of steps is symbolic, or None."""
        if not isinstance(cell, ChunkCell):
            return "it is not a ChunkCell"
        if open_length(xs):
            return "it cuts the steps into chunks, and their number is symbolic"
        return None

    def why_slow(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that the steps are few, or None."""
        return (
            f"fewer than {LEAST} steps are faster one by one"
            if leading(cell, xs)[0] < LEAST
            else None
        )

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        if not isinstance(cell, ChunkCell):
            raise TypeError(f"cell: expected a ChunkCell, got {cell}; use engine=Scan()")
        steps = leading(cell, xs)
        if steps[0] == 0:
            return Scan().run(cell, params, xs, carry, flags)
        held, back = closed_over((params, flags.fresh))

        def body(carry: Carry, inputs: PyTree) -> tuple[Carry, Outputs]:
            params, fresh = back(held)
            inputs = _in_order(inputs, flags.reverse)
            xs, valid, restart = inputs
            drive = cell.project(params, silence(valid, xs))
            part = Flags(valid, restart, fresh)
            carry, ys = _guarded(cell, params, carry, drive, part, len(steps))
            return carry, _in_order(ys, flags.reverse)

        body = jax.checkpoint(body, prevent_cse=False)
        inputs = (xs, flags.valid, flags.restart)
        return in_chunks(body, carry, inputs, chunk=self.size, reverse=flags.reverse)


def _in_order(tree: PyTree, reverse: bool) -> PyTree:
    """Turn arrays [C, ...] from the order of time to that of reading, or back."""
    return jax.tree.map(lambda a: jnp.flip(a, axis=0), tree) if reverse else tree


def _guarded(
    cell: ChunkCell, params: Params, carry: Carry, drive: PyTree, flags: Flags, ndim: int
) -> tuple[Carry, Outputs]:
    """Take a chunk, so that numbers that are not finite stay where they are, and padding is inert.

    In a matrix product 0 times NaN is NaN, which would pass into steps that do not see it. The cell
    is given zeros instead, and what the steps return that see them is NaN.

    Args:
        cell: the cell.
        params: its parameters.
        carry: the memory before the chunk, [*B, ...].
        drive: the result of `project`, [C, *B, ...].
        flags: `valid` and `restart` in the order of reading, and the fresh carry.
        ndim: the number of axes [C, *B].
    """
    valid, restart, fresh = flags.valid, flags.restart, flags.fresh
    bad = _spoiled(drive, ndim), _spoiled(carry, ndim - 1), _spoiled(fresh, ndim - 1)
    whole = (silence(~b, tree) for b, tree in zip(bad, (drive, carry, fresh), strict=True))
    drive, start, fresh = whole
    new, ys = cell.chunk(params, start, drive, dataclasses.replace(flags, fresh=fresh))
    seen = _seen(bad[0] if valid is None else bad[0] & valid, *bad[1:], restart)
    new, ys = _spoil(seen[-1], new), _spoil(seen, ys)
    if valid is None:
        return new, ys
    return select(jnp.any(valid, axis=0), new, carry), silence(valid, ys)


def _spoiled(tree: PyTree, ndim: int) -> jax.Array:
    """Return where numbers are not finite in arrays whose first `ndim` axes are those returned."""
    leaves = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    rows = (jnp.any(~jnp.isfinite(a), axis=tuple(range(ndim, a.ndim))) for a in leaves)
    return functools.reduce(jnp.logical_or, rows)


def _spoil(where: jax.Array, tree: PyTree) -> PyTree:
    """Set arrays of floating dtypes to NaN."""

    def leaf(a: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(a.dtype, jnp.inexact)
        return select(where, jnp.full_like(a, jnp.nan), a) if floating else a

    return jax.tree.map(leaf, tree)


def _seen(
    steps: jax.Array, carry: jax.Array, fresh: jax.Array, restart: jax.Array | None
) -> jax.Array:
    """Return which steps see one that is marked, or a marked memory at their start.

    Args:
        steps: bool[C, *B], the marked steps.
        carry: bool[*B], whether the memory before the chunk is marked.
        fresh: bool[*B], whether the memory after a restart is.
        restart: bool[C, *B], or None.
    """
    marked = steps.at[0].set(steps[0] | carry)
    times = jax.lax.broadcasted_iota(jnp.int32, steps.shape, 0)
    if restart is None:
        return jax.lax.cummax(marked.astype(jnp.int32)) > 0
    marked = select(restart, steps | fresh, marked)
    last, start = (jax.lax.cummax(select(m, times, times * 0 - 1)) for m in (marked, restart))
    return (last >= 0) & (last >= start)
