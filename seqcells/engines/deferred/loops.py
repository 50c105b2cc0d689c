"""The two sequential loops of `Deferred`: one over carries, one over their tangents.

Everything else is computed for many steps at once, in `forward` and `tangents`. Here each loop is a
`jax.lax.scan`. Kernels compute the same loops on a device and have the same derivatives.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import SplitCell
from seqcells._static import Static
from seqcells._trees import closed_over, select, zeros_like
from seqcells._types import Carry, Drive, Mixed, Params, PyTree
from seqcells.engines.deferred import slopes
from seqcells.engines.deferred.products import MixJvp
from seqcells.engines.deferred.slopes import Row

Both = Callable[[Carry], tuple[Drive, Mixed]]  # of the old carry, the drive and the mixed


class Steps(NamedTuple):
    """The inputs of some steps."""

    params: Params
    mix: Callable[[Params, Carry], Mixed]  # `mix` of the cell, or an equivalent function
    carry: Carry  # [*B, ...], before the first step
    fresh: Carry  # [*B, ...], None if there is no restart
    drive: Drive  # [C, *B, ...]
    valid: jax.Array | None  # bool[C, *B]
    restart: jax.Array | None  # bool[C, *B]


class Step(NamedTuple):
    """The inputs of one step, besides its products."""

    carry: Carry  # [*B, ...]
    fresh: Carry  # [*B, ...], None if there is no restart
    valid: jax.Array | None  # bool[*B]
    restart: jax.Array | None  # bool[*B]


class Linearization(NamedTuple):
    """The linearization of some steps: the inputs of the tangent in which it is not linear."""

    params: Params
    old: Carry  # [C, *B, ...], before each step
    mix_jvp: MixJvp
    by_carry: list[Row]  # for each leaf of the carry, its slopes by the leaves of the old carry
    by_mixed: list[Row]  # its slopes by the leaves of `mixed`; each [C, *B, ...] or None
    by_new: list[Row]  # its slopes by other leaves of the new carry, if it is computed from those
    valid: jax.Array | None
    restart: jax.Array | None


class Tangents(NamedTuple):
    """The tangents of the inputs of some steps: the inputs in which the tangent is linear."""

    carry: Carry  # [*B, ...], before the first step
    fresh: Carry  # [*B, ...], None if there is no restart or it has no tangent
    drive_tangents: list[list[jax.Array]]  # for each leaf of the carry, a term [C, *B, ...] or none


class Residuals(NamedTuple):
    """The values that the forward pass stores for the backward pass, besides the carry.

    A field is None if it is recomputed.
    """

    drive: Drive = None  # [T, *B, ...]
    mixed: Mixed = None  # [T, *B, ...]
    slopes: list[Row] | None = None  # slopes of the gate, as `slopes.distinct` returns them


class Loops(Static, abc.ABC):
    """How to run the sequential part of some steps."""

    unroll: int = 1  # steps per iteration, if it is a JAX loop

    @abc.abstractmethod
    def carries(
        self, cell: SplitCell, steps: Steps, *, reverse: bool, keep: tuple[str, ...]
    ) -> tuple[Carry, tuple[Carry, Residuals]]:
        """Compute the carries of some steps.

        Args:
            cell: the cell.
            steps: the inputs of the steps.
            reverse: whether time is read from the end.
            keep: the fields of `Residuals` to return.

        Returns:
            The last carry, and the carry and residuals of every step [C, *B, ...].
        """

    @abc.abstractmethod
    def tangents(
        self, cell: SplitCell, linearization: Linearization, tangents: Tangents, *, reverse: bool
    ) -> tuple[Carry, Carry]:
        """Compute the tangents of the carries of some steps.

        Args:
            cell: the cell.
            linearization: the steps, linearized.
            tangents: the tangents of their inputs.
            reverse: whether time is read from the end.

        Returns:
            The tangent of the last carry, and that of the carry after every step [C, *B, ...].
        """


@dataclasses.dataclass(frozen=True)
class Scans(Loops):
    """The loops as `jax.lax.scan`."""

    unroll: int = 1

    def carries(
        self, cell: SplitCell, steps: Steps, *, reverse: bool, keep: tuple[str, ...]
    ) -> tuple[Carry, tuple[Carry, Residuals]]:
        """Compute the carries of some steps."""
        held, back = closed_over((steps.params, steps.fresh))

        def step(carry: Carry, inputs: PyTree) -> tuple[Carry, tuple[Carry, Residuals]]:
            params, fresh = back(held)
            drive, valid, restart = inputs
            one = Step(carry, fresh, valid, restart)
            carry, residuals = one_step(
                cell, one, lambda old: (drive, steps.mix(params, old)), keep
            )
            return carry, (carry, residuals)

        inputs = (steps.drive, steps.valid, steps.restart)
        return jax.lax.scan(step, steps.carry, inputs, reverse=reverse, unroll=self.unroll)

    def tangents(
        self, cell: SplitCell, linearization: Linearization, tangents: Tangents, *, reverse: bool
    ) -> tuple[Carry, Carry]:
        """Compute the tangents of the carries of some steps."""
        structure = jax.tree.structure(tangents.carry)
        held, back = closed_over(tangents.fresh)

        def step(d_carry: Carry, inputs: PyTree) -> tuple[Carry, Carry]:
            drive_tangents, by_carry, by_mixed, by_new, old, valid, restart = inputs
            if restart is not None:
                fresh = zeros_like(d_carry) if held is None else back(held)
                d_carry = select(restart, fresh, d_carry)
            d_mixed = mix_jvp(old, d_carry)
            rows = zip(drive_tangents, by_carry, by_mixed, strict=True)
            direct: list[Row] = [
                [slopes.total(*term, *slopes.terms(by_old, d_carry), *slopes.terms(row, d_mixed))]
                for term, by_old, row in rows
            ]
            sums = zip(slopes.substituted(direct, by_new), jax.tree.leaves(d_carry), strict=True)
            leaves = [zeros_like(leaf) if one is None else one for (one,), leaf in sums]
            new = jax.tree.unflatten(structure, leaves)
            new = new if valid is None else select(valid, new, d_carry)
            return new, new

        _, old, mix_jvp, by_carry, by_mixed, by_new, valid, restart = linearization
        inputs = (tangents.drive_tangents, by_carry, by_mixed, by_new, old, valid, restart)
        return jax.lax.scan(step, tangents.carry, inputs, reverse=reverse, unroll=self.unroll)


def one_step(
    cell: SplitCell, step: Step, both: Both, keep: tuple[str, ...]
) -> tuple[Carry, Residuals]:
    """Run one step under its flags; return the carry, and the residuals named in `keep`."""
    old = step.carry if step.restart is None else select(step.restart, step.fresh, step.carry)
    drive, mixed = both(old)
    new = cell.gate(old, drive, mixed)
    residuals = Residuals(
        drive=drive if "drive" in keep else None,
        mixed=mixed if "mixed" in keep else None,
        slopes=slopes.distinct(cell.gate, old, drive, mixed) if "slopes" in keep else None,
    )
    return new if step.valid is None else select(step.valid, new, old), residuals


def add(terms: list[jax.Array]) -> list[jax.Array]:
    """Return the sum of the terms as a list of one, or an empty list if there are none."""
    return [functools.reduce(jnp.add, terms)] if terms else []


def total(terms: list[jax.Array], like: jax.Array) -> jax.Array:
    """Return the sum of the terms, or zeros if there are none."""
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(like)


def without_by_new(lin: Linearization, tangents: Tangents) -> tuple[Linearization, Tangents]:
    """Return an equivalent linearization with slopes by the old carry and `mixed` only."""
    rows = [
        [term[0] if term else None, *by_carry, *by_mixed]
        for term, by_carry, by_mixed in zip(
            tangents.drive_tangents, lin.by_carry, lin.by_mixed, strict=True
        )
    ]
    whole = slopes.substituted(rows, lin.by_new)
    end = 1 + len(lin.by_carry)
    lin = lin._replace(
        by_carry=[row[1:end] for row in whole],
        by_mixed=[row[end:] for row in whole],
        by_new=[[None] * len(row) for row in lin.by_new],
    )
    return lin, tangents._replace(
        drive_tangents=[[a for a in row[:1] if a is not None] for row in whole]
    )
