"""The loops that are left of a recurrence once all else is computed for many steps at once.

One goes through the carries, and one through their tangents; each has a plain form, a scan. Kernels
have a form of their own, and the plain form's derivatives.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Carry, Drive, Params, SplitCell
from seqcells._flags import select, zeros_like
from seqcells._static import Static
from seqcells.engines.deferred import slopes

Push = Callable[[Carry, Carry], Any]  # (carry, its tangent) -> the tangent of `mixed`


class Steps(NamedTuple):
    """What some steps are computed from."""

    params: Params
    carry: Carry  # [*B, ...], before the first of them
    fresh: Carry  # [*B, ...], None where there is no restart
    drive: Drive  # [C, *B, ...]
    valid: jax.Array | None  # bool[C, *B]
    restart: jax.Array | None  # bool[C, *B]


class Fixed(NamedTuple):
    """What the tangents of some steps are computed from, and in which they are not linear."""

    params: Params
    held: list[list[Any]]  # a row for each leaf of the carry: its slopes by the old carry's leaves
    felt: list[list[Any]]  # the same: its slopes by the leaves of `mixed`; [C, *B, ...] or None
    valid: jax.Array | None
    restart: jax.Array | None


class Moved(NamedTuple):
    """What the tangents of some steps are computed from, and in which they are linear."""

    carry: Carry  # [*B, ...], before the first of them
    fresh: Carry  # [*B, ...], None where there is no restart or it does not move
    pushes: list[list[jax.Array]]  # for each leaf of the carry, what is added: one [C, *B, ...]


class Loops(Static, abc.ABC):
    """A way through some steps."""

    unroll: int = 1  # steps of a turn, where it is a loop of JAX's

    @abc.abstractmethod
    def carries(
        self, cell: SplitCell, steps: Steps, reverse: bool, mixed: bool
    ) -> tuple[Carry, tuple[Carry, Any]]:
        """Return the last carry, and of every step its carry [C, *B, ...] and its `mixed` or None.

        Args:
            cell: the cell.
            steps: what the steps are computed from.
            reverse: whether time is read from the end.
            mixed: whether `mixed` is wanted.
        """

    @abc.abstractmethod
    def tangents(
        self, cell: SplitCell, fixed: Fixed, moved: Moved, old: Carry, push: Push, reverse: bool
    ) -> tuple[Carry, Carry]:
        """Return the tangent of the last carry, and of that after every step [C, *B, ...].

        Args:
            cell: the cell.
            fixed: the slopes.
            moved: the tangents.
            old: the carry that each step took, [C, *B, ...].
            push: what pushes a tangent through the product of a step.
            reverse: whether time is read from the end.
        """


@dataclasses.dataclass(frozen=True)
class Scans(Loops):
    """The plain form: `jax.lax.scan`, some steps a turn."""

    unroll: int = 1

    def carries(
        self, cell: SplitCell, steps: Steps, reverse: bool, mixed: bool
    ) -> tuple[Carry, tuple[Carry, Any]]:
        """Return the last carry, and of every step its carry and its `mixed` or None."""

        def step(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
            product, carry = one_step(cell, steps.params, steps.fresh, carry, *inputs)
            return carry, (carry, product if mixed else None)

        inputs = (steps.drive, steps.valid, steps.restart)
        return self._scan(step, steps.carry, inputs, reverse)

    def tangents(
        self, cell: SplitCell, fixed: Fixed, moved: Moved, old: Carry, push: Push, reverse: bool
    ) -> tuple[Carry, Carry]:
        """Return the tangent of the last carry, and of that after every step."""
        structure = jax.tree.structure(moved.carry)

        def step(d_carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
            pushes, held, felt, old, valid, restart = inputs
            if restart is not None:
                fresh = zeros_like(d_carry) if moved.fresh is None else moved.fresh
                d_carry = select(restart, fresh, d_carry)
            d_mixed = push(old, d_carry)
            sums = [
                add([*one, *slopes.push(by_carry, d_carry), *slopes.push(by_mixed, d_mixed)])
                for one, by_carry, by_mixed in zip(pushes, held, felt, strict=True)
            ]
            pairs = zip(sums, jax.tree.leaves(d_carry), strict=True)
            found = [one[0] if one else jnp.zeros_like(leaf) for one, leaf in pairs]
            new = jax.tree.unflatten(structure, found)
            new = new if valid is None else select(valid, new, d_carry)
            return new, new

        inputs = (moved.pushes, fixed.held, fixed.felt, old, fixed.valid, fixed.restart)
        return self._scan(step, moved.carry, inputs, reverse)

    def _scan(self, step: Any, carry: Carry, inputs: Any, reverse: bool) -> tuple[Carry, Any]:
        return jax.lax.scan(step, carry, inputs, reverse=reverse, unroll=self.unroll)


def one_step(
    cell: SplitCell,
    params: Params,
    fresh: Carry,
    carry: Carry,
    drive: Drive,
    valid: jax.Array | None,
    restart: jax.Array | None,
) -> tuple[Any, Carry]:
    """Take one step under flags; return its product and the new carry."""
    old = carry if restart is None else select(restart, fresh, carry)
    mixed = cell.mix(params, old)
    new = cell.gate(old, drive, mixed)
    return mixed, new if valid is None else select(valid, new, old)


def pushed(cell: SplitCell, params: Params, carry: Carry, d_carry: Carry) -> Any:
    """Push a tangent through the product of a step."""
    return jax.jvp(lambda carry: cell.mix(params, carry), (carry,), (d_carry,))[1]


def add(terms: list[jax.Array]) -> list[jax.Array]:
    """Add up to one term, or to none."""
    return [functools.reduce(jnp.add, terms)] if terms else []
