"""The default engine: `jax.lax.scan` over the cell's own step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export

from seqcells import _check
from seqcells._cell import Cell
from seqcells._flags import Flags, guard
from seqcells._trees import scan
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells.engines import _machine, _platform
from seqcells.engines._engine import Engine, Plan, open_length
from seqcells.engines._residuals import step_bytes

CHUNK_BYTES = 8 * _machine.MIB  # of residuals: up to here, more steps at once take no longer


@dataclasses.dataclass(frozen=True)
class Scan(Engine):
    """Run `cell.step` under `jax.lax.scan`; runs every cell, on every platform.

    Args:
        unroll: steps per loop iteration, at least 1.
        checkpoint: None stores all residuals of every step. An int C stores only the carry every C
            steps and recomputes the steps in between; "sqrt" sets C = ceil(sqrt(T)), so that peak
            memory grows as sqrt(T). C need not divide T. "auto", which `unroll` selects, stores
            all residuals up to about 24 MiB; with more, on a CPU, it sets C so that those of C
            steps take 8 MiB, but at least to about the square root of T. Recomputing them then
            takes less time than the memory.

    Raises:
        ValueError: on a value out of range.
        TypeError: on an argument of the wrong type.
    """

    unroll: int = 1
    checkpoint: int | str | None = None

    def __post_init__(self) -> None:
        _check.size("unroll", self.unroll, least=1)
        if isinstance(self.checkpoint, str):
            _check.choice("checkpoint", self.checkpoint, ("sqrt", "auto"))
        elif self.checkpoint is not None:
            _check.size("checkpoint", self.checkpoint, least=1)

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that the options need a known number of steps, which is symbolic, or None."""
        if (self.unroll > 1 or self.checkpoint not in (None, "auto")) and open_length(xs):
            return "it runs several steps at once, and their number is symbolic"
        return None

    def resolve(self, cell: Cell, xs: Inputs, flags: Flags) -> Plan:
        """Choose a number of steps for "auto"."""
        if self.checkpoint != "auto":
            return Plan(self, cell)
        return Plan(dataclasses.replace(self, checkpoint=_affordable(cell, xs)), cell)

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        if self.checkpoint == "auto":
            return self.resolve(cell, xs, flags).run(params, xs, carry, flags)
        step = guard(cell, params, flags.fresh)
        inputs = (xs, flags.valid, flags.restart)

        def loop(carry: Carry, inputs: PyTree) -> tuple[Carry, PyTree]:
            return scan(step, carry, inputs, reverse=flags.reverse, unroll=self.unroll)

        length = jax.tree.leaves(xs)[0].shape[0]
        if self.checkpoint is None or length == 0:
            return loop(carry, inputs)
        chunk = _root(length) if self.checkpoint == "sqrt" else int(self.checkpoint)
        body = jax.checkpoint(loop, prevent_cse=False)
        return in_chunks(body, carry, inputs, chunk=chunk, reverse=flags.reverse)


def _affordable(cell: Cell, xs: Inputs) -> int | None:
    """Return how many steps to recompute at once, or None if all residuals may be stored."""
    leaves = jax.tree.leaves(xs)
    sizes = [size for leaf in leaves for size in leaf.shape]
    if any(map(export.is_symbolic_dim, sizes)) or 0 in sizes or _platform.platform(xs) != "cpu":
        return None
    step, length = step_bytes(cell, xs), leaves[0].shape[0]
    most = _machine.HUGE_BYTES if _machine.maps_cheaply() else _machine.KEPT_BYTES
    if not step or length * step <= most:
        return None
    chunk = max(CHUNK_BYTES // step, _root(length))
    divisors = (d for d in range(chunk, chunk // 2, -1) if length % d == 0)
    return next(divisors, chunk)


def _root(length: int) -> int:
    return math.isqrt(length - 1) + 1


def in_chunks(
    loop: Callable[[Carry, PyTree], tuple[Carry, PyTree]],
    carry: Carry,
    inputs: PyTree,
    *,
    chunk: int,
    reverse: bool,
) -> tuple[Carry, PyTree]:
    """Run `loop` over chunks of time in reading order; the last chunk may be shorter.

    Args:
        loop: `(carry, inputs of a chunk) -> (carry, ys of the chunk)`.
        carry: the carry before the first chunk.
        inputs: a tree of arrays [T, ...]; T at least 1.
        chunk: steps per chunk.
        reverse: whether reading begins at the end.

    Returns:
        The last carry, and ys of all chunks, joined.
    """
    length = jax.tree.leaves(inputs)[0].shape[0]
    count, rest = divmod(length, chunk)
    whole, part = slice(length - rest), slice(length - rest, None)
    if reverse:
        whole, part = slice(rest, None), slice(rest)

    def cut(steps: slice) -> PyTree:
        return jax.tree.map(lambda a: a[steps], inputs)

    ys = []
    if count:
        blocks = jax.tree.map(lambda a: a.reshape(count, chunk, *a.shape[1:]), cut(whole))
        carry, blocks = jax.lax.scan(loop, carry, blocks, reverse=reverse)
        ys.append(jax.tree.map(lambda a: a.reshape(count * chunk, *a.shape[2:]), blocks))
    if rest:
        carry, last = loop(carry, cut(part))
        ys.append(last)
    ordered = ys[::-1] if reverse else ys
    return carry, jax.tree.map(lambda *a: jnp.concatenate(a), *ordered)
