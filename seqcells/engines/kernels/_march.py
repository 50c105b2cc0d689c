"""The bodies of kernels: a way through steps, which every device takes in its own loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._flags import zeros_like
from seqcells.engines.kernels import _tiles
from seqcells.engines.kernels._blocks import Blocks
from seqcells.engines.kernels._tiles import Leaves, Rule, Weights


class March(NamedTuple):
    """A kernel: what it does with tiles of what it reads, and with a state, which is tiles too."""

    name: str  # as profilers show it
    hold: Callable[[Blocks], Any]  # what is read -> what stays the same in all steps
    start: Callable[[Blocks], Any]  # what is read -> the state before the first
    take: Callable[[Rule, Any, Any, Any, Any], tuple[Any, Any]]
    # ^ rule, what is held, state, steps and code of one step -> the new state, what is written
    back: bool  # whether time is read from the end


def forward(reverse: bool) -> March:
    """Compute the carry after every step: it is the state, and what is written."""

    def hold(read: Blocks) -> tuple[Weights, Leaves | None]:
        u, c = read.whole
        gates = range(u.shape[0])
        biases = None if c is None else [c[g][None] for g in gates]
        return Weights([u[g] for g in gates], biases), load(read.rows[1])

    def take(rule: Rule, held: Any, carry: Leaves, drive: Leaves, code: Any) -> Any:
        weights, fresh = held
        carry = _tiles.forward(rule, weights, fresh, carry, drive, code)
        return carry, carry

    return March("seqcells_forward", hold, lambda read: load(read.rows[0]), take, reverse)


def backward(reverse: bool, restarts: bool) -> March:
    """Pull cotangents out of steps, against their order.

    The state is the cotangent of the carry, and the sums of those of the fresh carry.
    """

    def hold(read: Blocks) -> Leaves:
        return [read.whole[g] for g in range(read.whole.shape[0])]

    def start(read: Blocks) -> tuple[Leaves, Leaves | None]:
        carry = load(read.rows)
        return carry, zeros_like(carry) if restarts else None

    def take(rule: Rule, turned: Leaves, state: Any, seen: Any, code: Any) -> Any:
        (carry, fresh), (cotangents, slopes) = state, seen
        carry = list(map(jnp.add, carry, cotangents))
        pushes, carry, fresh = _tiles.cotangent(rule, turned, fresh, carry, slopes, code)
        return (carry, fresh), pushes

    return March("seqcells_backward", hold, start, take, not reverse)


def steps(march: March, rule: Rule, read: Blocks, made: Blocks, state: Any) -> Any:
    """Take the steps of a block in order, each read while the one before is computed."""
    count = jax.tree.leaves(read.steps)[0].shape[0]
    held = march.hold(read)

    def at(i: Any) -> Any:
        return count - 1 - i if march.back else i

    def body(i: Any, both: Any) -> Any:
        state, seen = both
        following = load((read.steps, read.code), at(jnp.minimum(i + 1, count - 1)))
        state, written = march.take(rule, held, state, *seen)
        store(made.steps, written, at(i))
        return state, following

    first = load((read.steps, read.code), at(0))
    return jax.lax.fori_loop(0, count, body, (state, first))[0]


def load(refs: Any, index: Any = ...) -> Any:
    """Read blocks."""
    return jax.tree.map(lambda ref: ref[index], refs)


def store(refs: Any, values: Any, index: Any = ...) -> None:
    """Write blocks."""
    for ref, value in zip(jax.tree.leaves(refs), jax.tree.leaves(values), strict=True):
        ref[index] = value.astype(ref.dtype)
