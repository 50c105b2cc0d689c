"""A JAX primitive whose derivative, transpose and batching rules are methods of its function.

JAX differentiates a scan by storing residuals of every step, and by adding to the gradient of each
weight in every step. It batches a scan by batching the scan's body. A `Function` may define another
derivative, and an `Operation` may run a batch of weights sequentially. Each rule returns an
operation again, so `grad`, `jvp`, `vmap` and `jit` nest in any order.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive, mapped_aval
from jax.interpreters import ad, batching, mlir

from seqcells._static import Static
from seqcells._trees import cached_shapes, closed_over

Arrays = tuple[jax.Array, ...]
Avals = tuple[ShapedArray, ...]
Axes = tuple[int | None, ...]  # like the `in_axes` of `jax.vmap`
Marks = tuple[bool, ...]  # marks some of the arguments
T = TypeVar("T")
S = TypeVar("S")


class Function(Static, abc.ABC):
    """A pure function from arrays to a tuple of arrays, as a static value."""

    @abc.abstractmethod
    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the outputs in JAX's own operations."""

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        """Return the Jacobian-vector product.

        Args:
            perturbed: which arguments have a tangent.
            outputs: the number of outputs.

        Returns:
            A function of (*arguments, *outputs, *tangents), linear in the tangents.
        """
        return Jvp(self, perturbed)

    def with_residuals(self) -> Function:
        """Return the function to run when a derivative is taken; its outputs go to `jvp`.

        Its first outputs are those of this function. Residuals may follow them.
        """
        return self

    def without_residuals(self) -> Function:
        """Return the function to run for one member of a batch, because all its outputs are stored.

        It may leave out its last outputs, if `without_residuals` of the derivative ignores them.
        """
        return self

    def pretranspose(self) -> Function:
        """Return an equivalent function that is cheaper to transpose."""
        return self

    def transpose(self, nonlinear: int, undefined: Marks, avals: Avals) -> Function:
        """Return the transpose with respect to some of the linear arguments.

        Args:
            nonlinear: the number of leading arguments in which this function is not linear.
            undefined: which of the linear arguments to transpose; JAX's undefined primals.
            avals: the shapes of the linear arguments.

        Returns:
            A function of (*nonlinear arguments, *cotangents of the outputs), linear in the latter.
        """
        return Transpose(self.pretranspose(), nonlinear, undefined, avals)


@dataclasses.dataclass(frozen=True)
class Operation(Static):
    """A function that JAX sees as one operation.

    Attributes:
        function: the function; linear in the arguments after the nonlinear ones.
        nonlinear: the number of leading arguments in which the function is not linear.
        weights: the number of leading arguments that are weights.
        vmap_sequentially: whether a batch of weights is run one member after another.
    """

    function: Function
    nonlinear: int
    weights: int
    vmap_sequentially: bool = False

    def __call__(self, *args: jax.Array) -> list[jax.Array]:
        """Compute the outputs as one operation."""
        return _operation_p.bind(*args, operation=self)

    def of(self, function: Function, nonlinear: int | None = None) -> Operation:
        """Return the operation of another function of the same weights."""
        nonlinear = self.nonlinear if nonlinear is None else nonlinear
        return dataclasses.replace(self, function=function, nonlinear=nonlinear)


@dataclasses.dataclass(frozen=True)
class Derived(Function):
    """A function derived from another; its variants derive from the variants of the other."""

    function: Function

    def without_residuals(self) -> Function:
        """Derive from the function without residuals."""
        return dataclasses.replace(self, function=self.function.without_residuals())

    def pretranspose(self) -> Function:
        """Derive from the function that is cheaper to transpose."""
        return dataclasses.replace(self, function=self.function.pretranspose())


@dataclasses.dataclass(frozen=True)
class Jvp(Derived):
    """The default derivative: `jax.jvp` of the function itself."""

    perturbed: Marks

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the tangents of the outputs."""
        count = sum(self.perturbed)
        primals, tangents = args[: len(self.perturbed)], args[len(args) - count :]

        def of_perturbed(*some: jax.Array) -> Arrays:
            return self.function(*_merge(self.perturbed, some, primals))

        return jax.jvp(of_perturbed, _pick(self.perturbed, primals), tangents)[1]


@dataclasses.dataclass(frozen=True)
class Transpose(Derived):
    """The default transpose: `jax.linear_transpose` of the function itself."""

    nonlinear: int
    undefined: Marks  # of the linear arguments
    avals: Avals  # shapes of the same arguments

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the cotangents of the undefined arguments."""
        nonlinear, cotangents = args[: self.nonlinear], args[self.nonlinear :]
        zeros = [jnp.zeros(a.shape, a.dtype) for a in self.avals]
        undefined = _pick(self.undefined, self.avals)

        def linear(*some: jax.Array) -> Arrays:
            return self.function(*nonlinear, *_merge(self.undefined, some, zeros))

        outputs = len(jax.eval_shape(linear, *undefined))  # fewer if residuals are left out
        return jax.linear_transpose(linear, *undefined)(cotangents[:outputs])


@dataclasses.dataclass(frozen=True)
class Batched(Derived):
    """A function under `jax.vmap`; an axis is None if all members share the argument."""

    axes: Axes

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the outputs of all members."""
        return jax.vmap(self.function, self.axes)(*args)

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        """Batch the derivative."""
        axes = (*self.axes, *[0] * outputs, *_pick(perturbed, self.axes))
        return Batched(self.function.jvp(perturbed, outputs), axes)

    def with_residuals(self) -> Function:
        """Batch the function with residuals."""
        return dataclasses.replace(self, function=self.function.with_residuals())

    def transpose(self, nonlinear: int, undefined: Marks, avals: Avals) -> Function:
        """Batch the transpose, if the function defines one."""
        default = super().transpose(nonlinear, undefined, avals)
        axes = self.axes[nonlinear:]
        member = tuple(map(_member, avals, axes))
        each = self.function.transpose(nonlinear, undefined, member)
        if isinstance(
            each, Transpose
        ):  # the transpose of a batch is faster than a batch of default transposes
            return default
        return BatchedTranspose(each, default, self.axes[:nonlinear], _pick(undefined, axes))


@dataclasses.dataclass(frozen=True)
class BatchedTranspose(Function):
    """The transpose of a batched function, as a batch of transposes.

    Attributes:
        each: the transpose for one member.
        default: the transpose of the batched function, which has derivatives.
        axes: the batch axes of the nonlinear arguments.
        out_axes: the batch axes of the outputs; None if all members share the output.
    """

    each: Function
    default: Function
    axes: Axes
    out_axes: Axes

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the cotangents of all members; sum those of shared arguments."""
        axes = (*self.axes, *[0] * (len(args) - len(self.axes)))
        pairs = zip(jax.vmap(self.each, axes)(*args), self.out_axes, strict=True)
        return tuple(a.sum(0) if axis is None else jnp.moveaxis(a, 0, axis) for a, axis in pairs)

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        """Differentiate the default transpose."""
        return self.default.jvp(perturbed, outputs)

    def pretranspose(self) -> Function:
        """Transpose the default transpose."""
        return self.default.pretranspose()


def _member(aval: ShapedArray, axis: int | None) -> ShapedArray:
    """Return the shape of one member of a batch."""
    if axis is None:
        return aval
    return cast(ShapedArray, mapped_aval(aval.shape[axis], axis, aval))


def _pick(marks: Marks, values: Sequence[T]) -> tuple[T, ...]:
    """Return the marked values."""
    return tuple(value for value, mark in zip(values, marks, strict=True) if mark)


def _merge(marks: Marks, marked: Sequence[T], others: Sequence[S]) -> list[T | S]:
    """Return a tuple with the next of `marked` at each mark, and the next of `others` elsewhere."""
    rest = iter(marked)
    return [next(rest) if mark else other for mark, other in zip(marks, others, strict=True)]


@cached_shapes(maxsize=1024)
def _out_avals(function: Function, avals: Avals) -> list[ShapedArray]:
    return [aval.update(weak_type=False) for aval in jax.make_jaxpr(function)(*avals).out_avals]


def _abstract_eval(*avals: ShapedArray, operation: Operation) -> list[ShapedArray]:
    return _out_avals(operation.function, avals)


def _impl(*args: jax.Array, operation: Operation) -> list[jax.Array]:
    return list(operation.function(*args))


# JAX passes symbolic zeros, undefined primals and None to the rules below, hence `Any`.


def _jvp_rule(
    primals: Sequence[jax.Array], tangents: Sequence[Any], *, operation: Operation
) -> tuple[list[jax.Array], list[Any]]:
    function, split = operation.function, operation.nonlinear
    count = len(_out_avals(function, tuple(map(jax.typeof, primals))))
    outs = operation.of(function.with_residuals())(*primals)
    perturbed = tuple(type(tangent) is not ad.Zero for tangent in tangents)
    sums: list[Any] = [ad.Zero(jax.typeof(out).to_tangent_aval()) for out in outs[:count]]
    if any(perturbed[split:]):  # linear: the derivative is the function itself
        sums = operation(*primals[:split], *map(ad.instantiate_zeros, tangents[split:]))
    if any(perturbed[:split]):
        marks = (*perturbed[:split], *[False] * (len(primals) - split))
        inner = operation.of(function.jvp(marks, len(outs)), nonlinear=len(primals) + len(outs))
        terms = inner(*primals, *outs, *_pick(marks, tangents))
        sums = list(map(ad.add_tangents, sums, terms))
    return outs[:count], sums


def _transpose_rule(
    cotangents: Sequence[Any], *args: Any, operation: Operation
) -> list[jax.Array | None]:
    nonlinear, linear = args[: operation.nonlinear], args[operation.nonlinear :]
    undefined = tuple(map(ad.is_undefined_primal, linear))
    avals = tuple(
        arg.aval if one else jax.typeof(arg) for arg, one in zip(linear, undefined, strict=True)
    )
    function = operation.function.transpose(len(nonlinear), undefined, avals)
    outs = operation.of(function)(*nonlinear, *map(ad.instantiate_zeros, cotangents))
    return [None] * len(nonlinear) + _merge(undefined, outs, [None] * len(linear))


def _batch_rule(
    args: Sequence[jax.Array], axes: Sequence[int | None], *, operation: Operation
) -> tuple[list[jax.Array], list[int | None]]:
    axes = tuple(axes)
    batched = tuple(axis is not None for axis in axes)
    if not (operation.vmap_sequentially and any(batched[: operation.weights])):
        outs = operation.of(Batched(operation.function, axes))(*args)
        return outs, [0] * len(outs)
    members = [
        jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True) if axis is not None
    ]
    lean = operation.of(operation.function.without_residuals())
    shared = [None if one else arg for one, arg in zip(batched, args, strict=True)]
    held, back = closed_over(shared)
    outs = jax.lax.map(lambda member: lean(*_merge(batched, member, back(held))), members)
    one = [_member(jax.typeof(a), 0) for a in members]
    avals = tuple(_merge(batched, one, [jax.typeof(a) for a in args]))
    left_out = _out_avals(operation.function, avals)[len(outs) :]
    zeros = [jnp.zeros(aval.shape, aval.dtype) for aval in left_out]  # which nothing reads
    return [*outs, *zeros], [0] * len(outs) + [None] * len(zeros)


OPERATION = "seqcells_operation"  # the name of the primitive in programs
_operation_p = Primitive(OPERATION)
_operation_p.multiple_results = True
_operation_p.def_impl(jax.jit(_impl, static_argnames="operation"))
_operation_p.def_abstract_eval(_abstract_eval)
ad.primitive_jvps[_operation_p] = _jvp_rule
ad.primitive_transposes[_operation_p] = _transpose_rule
batching.primitive_batchers[_operation_p] = _batch_rule
mlir.register_lowering(_operation_p, mlir.lower_fun(_impl, multiple_results=True))
