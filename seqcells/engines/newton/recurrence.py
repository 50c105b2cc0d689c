"""The recurrence of a cell under flags, h_t = f_t(h_{t-1}), for all steps at once."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Cell
from seqcells._static import Static
from seqcells._trees import select
from seqcells._types import Carry, Drive, Inputs, Outputs, Params
from seqcells.engines.newton.layout import Layout, next_carry, steps_itself


class Given(NamedTuple):
    """What determines the carries of T steps, in the order of reading."""

    params: Params
    fresh: Carry  # [*B, ...], the carry after a restart; None if there is none
    start: jax.Array  # [*B, U, K], the carries before the first step
    drive: Drive  # [T, *B, ...]
    valid: jax.Array | None  # bool[T, *B]
    restart: jax.Array | None  # bool[T, *B]


OverTime = tuple[Drive, jax.Array | None, jax.Array | None]  # drive, valid, restart


@dataclasses.dataclass(frozen=True)
class Recurrence(Static):
    """The steps of a cell on carries in blocks.

    A restart replaces h_{t-1} by the fresh carry, so f_t is constant there. At padding f_t is the
    identity.

    Attributes:
        cell: the cell.
        layout: how its carries are written as blocks.
        dtypes: the dtypes in which the cell reads the leaves of its parameters.
        factored: whether a step is a linear product and an elementwise gate; see `jacobians`.
    """

    cell: Cell
    layout: Layout
    dtypes: tuple[jnp.dtype, ...]
    factored: bool

    def one(self, given: Given, before: jax.Array) -> jax.Array:
        """Take one step: all of `given` without the axis T, before and result float[*B, U, K]."""
        carry = self.layout.unflatten(before)
        if given.restart is not None:
            carry = select(given.restart, given.fresh, carry)
        params = self.narrow(given.params)
        new = next_carry(self.cell, params, carry, given.drive, given.restart)
        return self.layout.flatten(new if given.valid is None else select(given.valid, new, carry))

    def narrow(self, params: Params) -> Params:
        """Return parameters in the dtypes in which the cell reads them."""
        leaves, structure = jax.tree.flatten(params)
        pairs = zip(leaves, self.dtypes, strict=True)
        return jax.tree.unflatten(structure, [a.astype(dtype) for a, dtype in pairs])

    def all(self, given: Given, before: jax.Array) -> jax.Array:
        """Take all steps at once, each from the carries before it, float[T, *B, U, K]."""

        def one(steps: OverTime, before: jax.Array) -> jax.Array:
            return self.one(_at(given, steps), before)

        return jax.vmap(one)(_over_time(given), before)

    def in_turn(self, given: Given) -> jax.Array:
        """Return the carries after each step, computed step by step."""

        def step(before: jax.Array, steps: OverTime) -> tuple[jax.Array, jax.Array]:
            after = self.one(_at(given, steps), before)
            return after, after

        return jax.lax.scan(step, given.start, _over_time(given))[1]

    def tangents_in_turn(self, given: Given, before: jax.Array, own: jax.Array) -> jax.Array:
        """Return y_t = J_t y_{t-1} + b_t step by step, with y_{-1} = 0.

        Args:
            given: what determines the carries.
            before: the carries before each step, at which J_t is taken, float[T, *B, U, K].
            own: b_t, as `before`.
        """

        def step(
            y: jax.Array, inputs: tuple[OverTime, jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            steps, before, own = inputs
            one = _at(given, steps)
            y = jax.jvp(lambda h: self.one(one, h), (before,), (y,))[1] + own
            return y, y

        zero = jnp.zeros_like(given.start)
        return jax.lax.scan(step, zero, (_over_time(given), before, own))[1]

    def before(self, given: Given, carries: jax.Array) -> jax.Array:
        """Return the carries before each step, from those after each."""
        return jnp.concatenate([given.start[None], carries[:-1]])

    def held(self, given: Given, carries: jax.Array) -> jax.Array:
        """Return the carries with that of the last valid step at padding, exactly."""
        if given.valid is None:
            return carries
        valid = given.valid
        steps = jnp.arange(1, len(valid) + 1).reshape(-1, *[1] * (valid.ndim - 1))
        last = jax.lax.cummax(jnp.where(valid, steps, 0))  # [T, *B]; 0 before the first valid step
        known = jnp.concatenate([given.start[None], carries])
        return jnp.take_along_axis(known, last[..., None, None], axis=0)


def _over_time(given: Given) -> OverTime:
    return given.drive, given.valid, given.restart


def _at(given: Given, steps: OverTime) -> Given:
    """Return what determines one step."""
    drive, valid, restart = steps
    return given._replace(drive=drive, valid=valid, restart=restart)


def project(cell: Cell, params: Params, xs: Inputs) -> Drive:
    """Return what the steps read, for all inputs [T, *B, ...] at once."""
    return xs if steps_itself(cell) else cell.project(params, xs)


def read(cell: Cell, given: Given, before: Carry, carries: Carry) -> Outputs:
    """Return the outputs of all steps, before padding is set to zero.

    Args:
        cell: the cell.
        given: what determined the carries; its params are those of the cell.
        before: the carries before each step, [T, *B, ...].
        carries: the carries after each step.
    """
    if not steps_itself(cell):
        return cell.read(given.params, carries, given.drive)

    def output(carry: Carry, x: Inputs, restart: jax.Array | None) -> Outputs:
        if restart is not None:
            carry = select(restart, given.fresh, carry)
        return cell.advance(given.params, carry, x, restart)[1]

    return jax.vmap(output)(before, given.drive, given.restart)
