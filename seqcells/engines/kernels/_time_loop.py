"""The bodies of kernels: loops over time, independent of the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._trees import zeros_like
from seqcells._types import PyTree
from seqcells.engines.kernels import _tiles
from seqcells.engines.kernels._blocks import Blocks
from seqcells.engines.kernels._tiles import Leaves, StepSpec, Weights


class TimeLoop(NamedTuple):
    """A loop over time, on tiles of its inputs and with a state of tiles."""

    name: str  # the name that profilers show
    constants: Callable[[Blocks], PyTree]  # inputs -> constants, which are the same in all steps
    init: Callable[[Blocks], PyTree]  # inputs -> the state before the first step
    step: Callable[[StepSpec, PyTree, PyTree, PyTree, jax.Array | None], tuple[PyTree, PyTree]]
    # ^ (spec, constants, state, inputs of a step, its code) -> (new state, output)
    reverse: bool  # whether time is read from the end


def forward(*, reverse: bool) -> TimeLoop:
    """Compute the carry after every step: it is both the state and the output."""

    def constants(inputs: Blocks) -> tuple[Weights, Leaves | None]:
        u, c = inputs.whole
        gates = range(u.shape[0])
        biases = None if c is None else [c[g][None] for g in gates]
        return Weights([u[g] for g in gates], biases), load(inputs.rows[1])

    def step(
        spec: StepSpec, constants: PyTree, carry: Leaves, drive: Leaves, code: jax.Array | None
    ) -> tuple[Leaves, Leaves]:
        weights, fresh = constants
        carry = _tiles.forward(spec, weights, fresh, carry, drive, code)
        return carry, carry

    def init(inputs: Blocks) -> Leaves:
        return load(inputs.rows[0])

    return TimeLoop("seqcells_forward", constants, init, step, reverse=reverse)


def backward(*, reverse: bool, restarts: bool) -> TimeLoop:
    """Compute the cotangents of the steps in reverse order.

    The state is the cotangent of the carry, and the sum of the cotangents of fresh carries.
    """

    def constants(inputs: Blocks) -> Leaves:
        return [inputs.whole[g] for g in range(inputs.whole.shape[0])]

    def init(inputs: Blocks) -> tuple[Leaves, Leaves | None]:
        carry = load(inputs.rows)
        return carry, zeros_like(carry) if restarts else None

    def step(
        spec: StepSpec, u_transposed: Leaves, state: PyTree, inputs: PyTree, code: jax.Array | None
    ) -> tuple[PyTree, Leaves]:
        (carry, fresh), (cotangents, slopes) = state, inputs
        carry = list(map(jnp.add, carry, cotangents))
        drive, carry, fresh = _tiles.cotangent(spec, u_transposed, fresh, carry, slopes, code)
        return (carry, fresh), drive

    return TimeLoop("seqcells_backward", constants, init, step, reverse=not reverse)


def steps(loop: TimeLoop, spec: StepSpec, inputs: Blocks, outputs: Blocks, state: PyTree) -> PyTree:
    """Run the steps of a block; load each step's inputs while the step before is computed."""
    count = jax.tree.leaves(inputs.steps)[0].shape[0]
    constants = loop.constants(inputs)

    def at(i: jax.Array | int) -> jax.Array | int:
        return count - 1 - i if loop.reverse else i

    def body(i: jax.Array, both: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        state, current = both
        following = load((inputs.steps, inputs.code), at(jnp.minimum(i + 1, count - 1)))
        state, output = loop.step(spec, constants, state, *current)
        store(outputs.steps, output, at(i))
        return state, following

    first = load((inputs.steps, inputs.code), at(0))
    return jax.lax.fori_loop(0, count, body, (state, first))[0]


def load(refs: PyTree, index: PyTree = ...) -> PyTree:
    """Read blocks."""
    return jax.tree.map(lambda ref: ref[index], refs)


def store(refs: PyTree, values: PyTree, index: PyTree = ...) -> None:
    """Write blocks."""
    for ref, value in zip(jax.tree.leaves(refs), jax.tree.leaves(values), strict=True):
        ref[index] = value.astype(ref.dtype)
