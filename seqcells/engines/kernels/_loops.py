"""The loops of `Deferred`, each computed by one kernel and differentiated as a plain scan."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Carry, SplitCell
from seqcells.cells._dense import DenseCell
from seqcells.engines.deferred.loops import Fixed, Loops, Moved, Push, Steps
from seqcells.engines.deferred.primitive import Function, Given, Operation, Turned
from seqcells.engines.kernels import _march, _products, _tiles
from seqcells.engines.kernels._blocks import Blocks
from seqcells.engines.kernels._march import March
from seqcells.engines.kernels._tiles import Leaves, Rule, Slopes, dot


class Read(NamedTuple):
    """What the kernel of the carries reads; N rows, H units."""

    u: jax.Array  # [G, H, H]
    c: jax.Array | None  # [G, H]
    carry: Leaves  # [N, H], before the first step
    fresh: Leaves | None  # [N, H]
    drive: Leaves  # [C, N, H]
    code: jax.Array | None  # int32[C, N, 1], what a row does in a step


class Sloped(NamedTuple):
    """What tangents are pushed through."""

    u: jax.Array  # [G, H, H]
    slopes: tuple[Slopes, Slopes]  # [C, N, H] each
    code: jax.Array | None


class Pushed(NamedTuple):
    """The tangents."""

    carry: Leaves  # [N, H]
    fresh: Leaves | None  # [N, H]
    pushes: list[Leaves]  # [C, N, H], or nothing


class Pulled(NamedTuple):
    """What the kernel of the cotangents reads."""

    turned: jax.Array  # [G, H, H], the matrices transposed
    slopes: tuple[Slopes, Slopes]  # [C, N, H] each
    code: jax.Array | None
    last: Leaves  # [N, H], the cotangent of the last carry
    carries: Leaves  # [C, N, H], those of the carries after every step
    restarts: bool  # whether the cotangent of the fresh carry is wanted


class Kernels(Loops):
    """What computes the loops on a device."""

    @abc.abstractmethod
    def launch(self, march: March, rule: Rule, read: Blocks, made: Blocks) -> Blocks:
        """Run a kernel over all steps and rows of what it reads.

        Args:
            march: the kernel.
            rule: the cell; how operands are multiplied is left open.
            read: arrays.
            made: the shapes of what is made, whose rows, if there are any, are the last state.
        """

    def forward(self, rule: Rule, read: Read, reverse: bool) -> Leaves:
        """Compute the carry after every step, [C, N, H]."""
        given = Blocks(read.drive, read.code, (read.carry, read.fresh), (read.u, read.c))
        length = len(read.drive[0])
        made = Blocks([jax.ShapeDtypeStruct((length, *a.shape), a.dtype) for a in read.carry])
        return self.launch(_march.forward(reverse), rule, given, made).steps

    def backward(
        self, rule: Rule, pulled: Pulled, reverse: bool
    ) -> tuple[Leaves, Leaves, Leaves | None]:
        """Compute the cotangents of what is pushed [C, N, H], and of both carries [N, H].

        `reverse` is the order of the steps forward; cotangents go the other way.
        """
        steps = (pulled.carries, pulled.slopes)
        given = Blocks(steps, pulled.code, pulled.last, pulled.turned)
        made = Blocks(pulled.carries, None, (pulled.last, pulled.last if pulled.restarts else None))
        found = self.launch(_march.backward(reverse, pulled.restarts), rule, given, made)
        return found.steps, *found.rows

    def carries(
        self, cell: SplitCell, steps: Steps, reverse: bool, mixed: bool
    ) -> tuple[Carry, tuple[Carry, Any]]:
        """Return the last carry, and of every step its carry; `mixed` is never kept."""
        assert not mixed
        rows = _Rows(steps.carry)
        product = _products.product(cell, steps.params, rows.dtype)
        read = Read(
            *product,
            rows.flat(steps.carry),
            None if steps.restart is None else rows.flat(steps.fresh),
            rows.flat(steps.drive, 1),
            rows.code(steps.valid, steps.restart),
        )
        args, structure = jax.tree.flatten(read)
        rule = _rule(cell, steps.carry, steps.drive)
        weights = len(jax.tree.leaves((read.u, read.c)))
        function = _Carries(self, rule, structure, reverse)
        found = rows.back(Operation(function, len(args), weights, one_by_one=False)(*args), 1)
        return jax.tree.map(lambda a: a[0 if reverse else -1], found), (found, None)

    def tangents(
        self, cell: SplitCell, fixed: Fixed, moved: Moved, old: Carry, push: Push, reverse: bool
    ) -> tuple[Carry, Carry]:
        """Return the tangent of the last carry, and of that after every step."""
        rows = _Rows(moved.carry)
        slopes = (rows.flat_all(fixed.held), rows.flat_all(fixed.felt))
        code = rows.code(fixed.valid, fixed.restart)
        u = _products.product(cell, fixed.params, rows.dtype).u
        sloped = Sloped(u, slopes, code)
        fresh = None if moved.fresh is None else rows.flat(moved.fresh)
        pushed = Pushed(rows.flat(moved.carry), fresh, rows.flat_all(moved.pushes))
        args, structure = jax.tree.flatten((sloped, pushed))
        count = len(jax.tree.leaves(sloped))
        rule = _rule(cell, moved.carry, None)
        function = _Tangents(self, rule, structure, reverse, fixed.restart is not None)
        found = Operation(function, count, 1, one_by_one=False)(*args)
        half = len(found) // 2
        return rows.back(found[:half]), rows.back(found[half:], 1)


@dataclasses.dataclass(frozen=True)
class Scanned(Kernels):
    """The loops in plain operations: what kernels must equal, and what JAX differentiates."""

    def launch(self, march: March, rule: Rule, read: Blocks, made: Blocks) -> Blocks:
        """Take all steps of all rows in a scan."""
        held = march.hold(read)

        def step(state: Any, inputs: Any) -> Any:
            return march.take(rule, held, state, *inputs)

        inputs = (read.steps, read.code)
        last, written = jax.lax.scan(step, march.start(read), inputs, reverse=march.back)
        return Blocks(steps=written, rows=None if made.rows is None else last)


def cast(read: Blocks, operand: Any) -> Blocks:
    """Return what a kernel reads with the matrices in the dtype in which they are multiplied."""
    matrices = lambda a: a.astype(operand) if a.ndim == 3 else a  # noqa: E731
    return read._replace(whole=jax.tree.map(matrices, read.whole))


def multiplied(
    rule: Rule, operand: Any, precision: Any, like: jax.ShapeDtypeStruct, interpret: bool
) -> tuple[Any, Rule]:
    """Return the dtype of operands, and the rule that multiplies them so.

    Args:
        rule: the cell.
        operand: the dtype that a device multiplies.
        precision: how, as JAX has it.
        like: a leaf of a carry [..., H].
        interpret: whether plain operations take the place of a device's; they multiply in the dtype
            of the carry what a device would in float32.
    """
    if interpret:
        operand, precision = operand if operand == jnp.bfloat16 else like.dtype, None
    options = {"operand": operand, "precision": precision, "units": like.shape[-1]}
    return operand, rule._replace(dot=functools.partial(dot, **options))


def _rule(cell: SplitCell, carry: Carry, drive: Any) -> Rule:
    assert isinstance(cell, DenseCell)
    mixed = tuple(range(len(cell.GATES))) if len(cell.GATES) > 1 else 0
    return Rule(cell, tuple(map(jax.tree.structure, (carry, drive, mixed))))


class _Rows:
    """Batch axes, made one and back."""

    def __init__(self, carry: Carry):
        leaves, self.structure = jax.tree.flatten(carry)
        self.lead = leaves[0].shape[:-1]
        self.number = math.prod(self.lead)
        self.dtype = leaves[0].dtype

    def flat(self, tree: Any, before: int = 0) -> Leaves:
        """Return the leaves with one axis for the batch, which follows `before` others."""
        return [
            a.reshape(*a.shape[:before], self.number, a.shape[-1]) for a in jax.tree.leaves(tree)
        ]

    def flat_all(self, table: Any) -> Any:
        """The same of [C, *B, H] in a table."""
        return jax.tree.map(lambda a: self.flat(a, 1)[0], table)

    def back(self, leaves: Leaves, before: int = 0) -> Carry:
        """Undo `flat`."""
        shaped = [a.reshape(*a.shape[:before], *self.lead, a.shape[-1]) for a in leaves]
        return jax.tree.unflatten(self.structure, shaped)

    def code(self, valid: Any, restart: Any) -> jax.Array | None:
        """Make int32[C, N, 1] of two flags [C, *B]."""
        if valid is None and restart is None:
            return None
        steps = _tiles.STEP if valid is None else jnp.where(valid, _tiles.STEP, _tiles.PADDING)
        found = steps if restart is None else jnp.where(restart, _tiles.RESTART, steps)
        return jnp.asarray(found, jnp.int32).reshape(-1, self.number, 1)


@dataclasses.dataclass(frozen=True)
class _Carries(Function):
    """The carry after every step, by a kernel; by a scan where it is differentiated."""

    kernels: Kernels
    rule: Rule
    structure: Any  # that of `Read`
    reverse: bool

    def __call__(self, *args: jax.Array) -> tuple[jax.Array, ...]:
        read: Read = jax.tree.unflatten(self.structure, args)
        return tuple(self.kernels.forward(self.rule, read, self.reverse))

    def along(self, given: Given, outputs: int) -> Function:
        if self.kernels == Scanned():
            return super().along(given, outputs)
        return dataclasses.replace(self, kernels=Scanned()).along(given, outputs)


@dataclasses.dataclass(frozen=True)
class _Tangents(Function):
    """The tangents of the last carry and of all, by a scan; their transpose is by a kernel."""

    kernels: Kernels | None
    rule: Rule
    structure: Any  # that of (Sloped, Pushed)
    reverse: bool
    restarts: bool

    def __call__(self, *args: jax.Array) -> tuple[jax.Array, ...]:
        sloped, pushed = jax.tree.unflatten(self.structure, args)
        u = list(sloped.u)

        def step(carry: Leaves, inputs: Any) -> tuple[Leaves, Leaves]:
            given = (self.rule, u, pushed.fresh, carry)
            carry = _tiles.tangent(*given, *inputs, restarts=self.restarts)
            return carry, carry

        inputs = (pushed.pushes, sloped.slopes, sloped.code)
        last, all_ = jax.lax.scan(step, pushed.carry, inputs, reverse=self.reverse)
        return (*last, *all_)

    def turned(self, fixed: int, wanted: Given, avals: tuple[Any, ...]) -> Function:
        plain = Turned(dataclasses.replace(self, kernels=None), fixed, wanted, avals)
        return plain if self.kernels is None else _Cotangents(self, plain)


@dataclasses.dataclass(frozen=True)
class _Cotangents(Function):
    """The transpose of `_Tangents`."""

    tangents: _Tangents
    plain: Turned

    def __call__(self, *args: jax.Array) -> tuple[jax.Array, ...]:
        count, avals = self.plain.fixed, self.plain.avals
        leaves = [*args[:count], *avals]
        sloped, pushed = jax.tree.unflatten(self.tangents.structure, leaves)
        half = len(pushed.carry)
        cotangents = list(args[count:])
        turned = jnp.swapaxes(sloped.u, 1, 2)
        pulled = Pulled(
            *(turned, sloped.slopes, sloped.code),
            *(cotangents[:half], cotangents[half:]),
            restarts=self.tangents.restarts,
        )
        assert self.tangents.kernels is not None
        pushes, carry, fresh = self.tangents.kernels.backward(
            self.tangents.rule, pulled, self.tangents.reverse
        )
        some = [[one] if row else [] for one, row in zip(pushes, pushed.pushes, strict=True)]
        found = jax.tree.leaves(Pushed(carry, fresh if pushed.fresh is not None else None, some))
        return tuple(one for one, wanted in zip(found, self.plain.wanted, strict=True) if wanted)

    def along(self, given: Given, outputs: int) -> Function:
        return self.plain.along(given, outputs)

    def turning(self) -> Function:
        return self.plain
