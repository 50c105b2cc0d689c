"""The loops of `Deferred`, each computed by one kernel and differentiated like a plain scan."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Carry, SplitCell
from seqcells._types import PyTree, TreeDef
from seqcells.engines.deferred.loops import (
    Linearization,
    Loops,
    Residuals,
    Steps,
    Tangents,
    without_by_new,
)
from seqcells.engines.deferred.primitive import (
    Arrays,
    Avals,
    Function,
    Marks,
    Operation,
    Transpose,
)
from seqcells.engines.kernels import _products, _tiles, _time_loop
from seqcells.engines.kernels._blocks import Blocks
from seqcells.engines.kernels._tiles import Leaves, Slopes, StepSpec, dot
from seqcells.engines.kernels._time_loop import TimeLoop


class ForwardInputs(NamedTuple):
    """The inputs of the forward kernel; N rows, H units."""

    u: jax.Array  # [G, H, H]
    c: jax.Array | None  # [G, H]
    carry: Leaves  # [N, H], before the first step
    fresh: Leaves | None  # [N, H]
    drive: Leaves  # [C, N, H]
    code: jax.Array | None  # int32[C, N, 1], the action of each row in each step


class NonlinearInputs(NamedTuple):
    """The inputs in which the tangent is not linear."""

    u: jax.Array  # [G, H, H]
    slopes: Slopes  # [C, N, H] each
    code: jax.Array | None


class LinearInputs(NamedTuple):
    """The inputs in which the tangent is linear."""

    carry: Leaves  # [N, H]
    fresh: Leaves | None  # [N, H]
    drive_tangents: list[Leaves]  # [C, N, H], or none


class Kernels(Loops):
    """Loops that kernels compute."""

    @abc.abstractmethod
    def launch(self, loop: TimeLoop, spec: StepSpec, inputs: Blocks, out: Blocks) -> Blocks:
        """Run a kernel over all steps and rows of its inputs.

        Args:
            loop: what the kernel computes.
            spec: the cell; its `dot` is replaced by the product of the device.
            inputs: arrays.
            out: the shapes of the outputs; its `rows`, if any, are the last state.
        """

    def carries(
        self, cell: SplitCell, steps: Steps, *, reverse: bool, keep: tuple[str, ...]
    ) -> tuple[Carry, tuple[Carry, Residuals]]:
        """Compute the carries of some steps; a kernel keeps no products."""
        if keep:
            raise NotImplementedError(f"keep: expected (), got {keep}; kernels keep no residuals")
        batch = _Batch(steps.carry)
        u, c = _products.product(cell, steps.params, batch.dtype)
        inputs = ForwardInputs(
            u=u,
            c=c,
            carry=batch.flat(steps.carry),
            fresh=None if steps.restart is None else batch.flat(steps.fresh),
            drive=batch.flat(steps.drive, 1),
            code=batch.code(steps.valid, steps.restart),
        )
        args, structure = jax.tree.flatten(inputs)
        mixed = jax.eval_shape(cell.mix, steps.params, steps.carry)
        spec = _spec(cell, steps.carry, steps.drive, mixed)
        weights = len(jax.tree.leaves((u, c)))
        operation = Operation(_Carries(self, spec, structure, reverse=reverse), len(args), weights)
        carries = batch.unflatten(operation(*args), 1)
        return jax.tree.map(lambda a: a[0 if reverse else -1], carries), (carries, Residuals())

    def tangents(
        self, cell: SplitCell, linearization: Linearization, tangents: Tangents, *, reverse: bool
    ) -> tuple[Carry, Carry]:
        """Compute the tangents of the carries of some steps."""
        lin, tangents = without_by_new(linearization, tangents)
        batch = _Batch(tangents.carry)
        slopes = (batch.flat_table(lin.by_carry), batch.flat_table(lin.by_mixed))
        code = batch.code(lin.valid, lin.restart)
        u, _ = _products.product(cell, lin.params, batch.dtype)
        nonlinear = NonlinearInputs(u, slopes, code)
        linear = LinearInputs(
            carry=batch.flat(tangents.carry),
            fresh=None if tangents.fresh is None else batch.flat(tangents.fresh),
            drive_tangents=batch.flat_table(tangents.drive_tangents),
        )
        args, structure = jax.tree.flatten((nonlinear, linear))
        function = _Tangents(
            kernels=self,
            spec=_spec(cell, tangents.carry),
            structure=structure,
            reverse=reverse,
            restarts=lin.restart is not None,
        )
        outputs = Operation(function, len(jax.tree.leaves(nonlinear)), weights=1)(*args)
        half = len(outputs) // 2
        return batch.unflatten(outputs[:half]), batch.unflatten(outputs[half:], 1)


@dataclasses.dataclass(frozen=True)
class PlainKernels(Kernels):
    """The same loops in plain JAX. Kernels must equal them, and JAX differentiates them."""

    def launch(self, loop: TimeLoop, spec: StepSpec, inputs: Blocks, out: Blocks) -> Blocks:
        """Run all steps of all rows in a scan."""
        constants = loop.constants(inputs)

        def step(state: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
            return loop.step(spec, constants, state, *inputs)

        steps = (inputs.steps, inputs.code)
        last, outputs = jax.lax.scan(step, loop.init(inputs), steps, reverse=loop.reverse)
        return Blocks(steps=outputs, rows=None if out.rows is None else last)


def cast_matrices(inputs: Blocks, operand: jnp.dtype) -> Blocks:
    """Cast the matrices to the dtype in which they are multiplied."""
    matrices = lambda a: a.astype(operand) if a.ndim == 3 else a  # noqa: E731
    return inputs._replace(whole=jax.tree.map(matrices, inputs.whole))


def with_dot(
    spec: StepSpec,
    operand: jnp.dtype,
    precision: jax.lax.PrecisionLike,
    like: jax.ShapeDtypeStruct,
    *,
    interpret: bool,
) -> tuple[jnp.dtype, StepSpec]:
    """Return the dtype of operands, and the spec that multiplies in it.

    Args:
        spec: the cell.
        operand: the dtype that the device multiplies.
        precision: the precision argument of `jax.lax.dot_general`.
        like: a leaf of a carry [..., H].
        interpret: whether plain operations replace those of the device. They multiply in the dtype
            of the carry where a device would multiply in float32.
    """
    if interpret:
        operand, precision = operand if operand == jnp.bfloat16 else like.dtype, None
    options = {"operand": operand, "precision": precision, "units": like.shape[-1]}
    return operand, spec._replace(dot=functools.partial(dot, **options))


def _spec(cell: SplitCell, carry: Carry, drive: PyTree = None, mixed: PyTree = None) -> StepSpec:
    carry, drive, mixed = map(jax.tree.structure, (carry, drive, mixed))
    return StepSpec(cell, (carry, drive, mixed))


class _Batch:
    """Joins batch axes into one and restores them."""

    def __init__(self, carry: Carry):
        leaves, self.structure = jax.tree.flatten(carry)
        self.lead = leaves[0].shape[:-1]
        self.rows = math.prod(self.lead)
        self.dtype = leaves[0].dtype

    def flat(self, tree: PyTree, before: int = 0) -> Leaves:
        """Return the leaves with one batch axis, which follows `before` other axes."""
        return [a.reshape(*a.shape[:before], self.rows, a.shape[-1]) for a in jax.tree.leaves(tree)]

    def flat_table(self, table: PyTree) -> PyTree:
        """Join the batch axes of the arrays [C, *B, H] of a table."""
        return jax.tree.map(lambda a: self.flat(a, 1)[0], table)

    def unflatten(self, leaves: Leaves, before: int = 0) -> Carry:
        """Undo `flat`."""
        shaped = [a.reshape(*a.shape[:before], *self.lead, a.shape[-1]) for a in leaves]
        return jax.tree.unflatten(self.structure, shaped)

    def code(self, valid: jax.Array | None, restart: jax.Array | None) -> jax.Array | None:
        """Encode two flags [C, *B] as int32[C, N, 1]."""
        if valid is None and restart is None:
            return None
        steps = _tiles.STEP if valid is None else jnp.where(valid, _tiles.STEP, _tiles.PADDING)
        code = steps if restart is None else jnp.where(restart, _tiles.RESTART, steps)
        return jnp.asarray(code, jnp.int32).reshape(-1, self.rows, 1)


@dataclasses.dataclass(frozen=True)
class _Carries(Function):
    """The carry after every step, computed by a kernel; its derivative is that of a scan."""

    kernels: Kernels
    spec: StepSpec
    structure: TreeDef  # of `ForwardInputs`
    reverse: bool

    def __call__(self, *args: jax.Array) -> Arrays:
        i: ForwardInputs = jax.tree.unflatten(self.structure, args)
        inputs = Blocks(i.drive, i.code, rows=(i.carry, i.fresh), whole=(i.u, i.c))
        length = len(i.drive[0])
        out = Blocks([jax.ShapeDtypeStruct((length, *a.shape), a.dtype) for a in i.carry])
        loop = _time_loop.forward(reverse=self.reverse)
        return tuple(self.kernels.launch(loop, self.spec, inputs, out).steps)

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        if self.kernels == PlainKernels():
            return super().jvp(perturbed, outputs)
        return dataclasses.replace(self, kernels=PlainKernels()).jvp(perturbed, outputs)


@dataclasses.dataclass(frozen=True)
class _Tangents(Function):
    """The tangents of the last carry and of all carries, by a scan; its transpose is a kernel."""

    kernels: Kernels
    spec: StepSpec
    structure: TreeDef  # of (NonlinearInputs, LinearInputs)
    reverse: bool
    restarts: bool

    def __call__(self, *args: jax.Array) -> Arrays:
        nonlinear, linear = jax.tree.unflatten(self.structure, args)
        u = list(nonlinear.u)

        def step(carry: Leaves, inputs: PyTree) -> tuple[Leaves, Leaves]:
            term, slopes, code = inputs
            carry = _tiles.tangent(
                self.spec, u, linear.fresh, carry, term, slopes, code, restarts=self.restarts
            )
            return carry, carry

        inputs = (linear.drive_tangents, nonlinear.slopes, nonlinear.code)
        last, carries = jax.lax.scan(step, linear.carry, inputs, reverse=self.reverse)
        return (*last, *carries)

    def transpose(self, nonlinear: int, undefined: Marks, avals: Avals) -> Function:
        return _Cotangents(self, Transpose(self, nonlinear, undefined, avals))


@dataclasses.dataclass(frozen=True)
class _Cotangents(Function):
    """The transpose of `_Tangents`, computed by a kernel; its derivative is that of a scan."""

    tangents: _Tangents
    plain: Transpose

    def __call__(self, *args: jax.Array) -> Arrays:
        tangents, count = self.tangents, self.plain.nonlinear
        leaves = [*args[:count], *self.plain.avals]
        nonlinear, linear = jax.tree.unflatten(tangents.structure, leaves)
        half, cotangents = len(linear.carry), list(args[count:])
        last, carries = cotangents[:half], cotangents[half:]
        u_transposed = jnp.swapaxes(nonlinear.u, 1, 2)
        steps = (carries, nonlinear.slopes)
        inputs = Blocks(steps, nonlinear.code, rows=last, whole=u_transposed)
        out = Blocks(carries, rows=(last, last if tangents.restarts else None))
        loop = _time_loop.backward(reverse=tangents.reverse, restarts=tangents.restarts)
        drive, _, (carry, fresh), _ = tangents.kernels.launch(loop, tangents.spec, inputs, out)
        outputs = LinearInputs(
            carry=carry,
            fresh=fresh if linear.fresh is not None else None,
            drive_tangents=[
                [one] if row else [] for one, row in zip(drive, linear.drive_tangents, strict=True)
            ],
        )
        pairs = zip(jax.tree.leaves(outputs), self.plain.undefined, strict=True)
        return tuple(one for one, undefined in pairs if undefined)

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        return self.plain.jvp(perturbed, outputs)

    def pretranspose(self) -> Function:
        return self.plain
