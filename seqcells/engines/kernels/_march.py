"""The bodies of kernels: what reads and writes blocks of steps around what `_tiles` computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqcells.engines.kernels import _tiles
from seqcells.engines.kernels._blocks import Blocks
from seqcells.engines.kernels._tiles import Leaves, Rule, Weights


def forward(back: bool, rule: Rule, read: Blocks, made: Blocks, carry: Leaves) -> Leaves:
    """Take the steps of a block; write the carry after each, and return the last."""
    u, c = read.whole
    gates = range(u.shape[0])
    weights = Weights([u[g] for g in gates], None if c is None else [c[g][None] for g in gates])
    fresh = load(read.rows[1])

    def take(t: Any, carry: Leaves, drive: Leaves, code: Any) -> Leaves:
        carry = _tiles.forward(rule, weights, fresh, carry, drive, code)
        store(made.steps, carry, t)
        return carry

    return _loop(read, back, take, carry)


def backward(
    back: bool, rule: Rule, read: Blocks, made: Blocks, state: tuple[Leaves, Leaves | None]
) -> tuple[Leaves, Leaves | None]:
    """Go through the steps of a block against their order; write what is pulled out of each.

    The state is the cotangent of the carry, and the sums of those of the fresh carry.
    """
    turned = [read.whole[g] for g in range(read.whole.shape[0])]

    def take(t: Any, state: Any, seen: Any, code: Any) -> Any:
        (carry, fresh), (cotangents, slopes) = state, seen
        carry = list(map(jnp.add, carry, cotangents))
        pushes, carry, fresh = _tiles.cotangent(rule, turned, fresh, carry, slopes, code)
        store(made.steps, pushes, t)
        return carry, fresh

    return _loop(read, back, take, state)


def load(refs: Any, index: Any = ...) -> Any:
    """Read blocks."""
    return jax.tree.map(lambda ref: ref[index], refs)


def store(refs: Any, values: Any, index: Any = ...) -> None:
    """Write blocks."""
    for ref, value in zip(jax.tree.leaves(refs), jax.tree.leaves(values), strict=True):
        ref[index] = value.astype(ref.dtype)


def _loop(read: Blocks, back: bool, take: Callable[..., Any], state: Any) -> Any:
    """Take steps in order, each read while the one before is computed."""
    count = jax.tree.leaves(read.steps)[0].shape[0]

    def at(i: Any) -> Any:
        return count - 1 - i if back else i

    def body(i: Any, both: Any) -> Any:
        state, seen = both
        following = load((read.steps, read.code), at(jnp.minimum(i + 1, count - 1)))
        return take(at(i), state, *seen), following

    first = load((read.steps, read.code), at(0))
    return jax.lax.fori_loop(0, count, body, (state, first))[0]
