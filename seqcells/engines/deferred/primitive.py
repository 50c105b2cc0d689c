"""Functions that JAX sees as one operation, with a derivative and a batching of their own.

JAX differentiates a scan by keeping what every step needs and adding to the weights' gradient in
every step, and it batches a scan by widening its body. A `Function` may say another derivative, and
an operation may take a batch of weights one member after another. What the rules make of an
operation is an operation again, so that grad, jvp, vmap and jit nest in any order.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, mapped_aval
from jax.interpreters import ad, batching, mlir

from seqcells._static import Static

Arrays = tuple[jax.Array, ...]
Given = tuple[bool, ...]  # which of some arguments are meant


class Function(Static, abc.ABC):
    """A pure function of arrays to a tuple of arrays, as a static value."""

    @abc.abstractmethod
    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute, in JAX's own operations."""

    def along(self, given: Given, outputs: int) -> Function:
        """Return the derivative by the given arguments.

        Args:
            given: which arguments have a tangent.
            outputs: the number of outputs.

        Returns:
            A function of (*arguments, *outputs, *tangents), linear in the tangents.
        """
        return _Along(self, given)

    def recording(self) -> Function:
        """Return what to compute where a derivative is taken: `along` reads its outputs."""
        return self

    def sparing(self) -> Function:
        """Return what to compute for one member of many, whose outputs are all stored at once.

        Its last outputs may be left out, if `sparing` of the derivative does not read them.
        """
        return self

    def turning(self) -> Function:
        """Return what to transpose in place of this: its equal, made for that."""
        return self

    def turned(self, fixed: int, wanted: Given, avals: tuple[Any, ...]) -> Function:
        """Return the transpose by some of the arguments in which this is linear.

        Args:
            fixed: how many arguments, the first ones, are not such.
            wanted: which of the others are meant.
            avals: the shapes of the others.

        Returns:
            A function of (*fixed arguments, *cotangents of the outputs), linear in the latter.
        """
        return Turned(self.turning(), fixed, wanted, avals)


@dataclasses.dataclass(frozen=True)
class Operation(Static):
    """A function as one operation.

    Attributes:
        function: what is computed; linear in the arguments after the fixed ones.
        fixed: how many arguments, the first ones, are not such.
        weights: how many arguments, the first ones, are weights.
        one_by_one: whether a batch of weights is taken one member after another.
    """

    function: Function
    fixed: int
    weights: int
    one_by_one: bool

    def __call__(self, *args: Any) -> list[jax.Array]:
        """Compute, as one operation."""
        return _operation_p.bind(*args, operation=self)

    def of(self, function: Function, fixed: int | None = None) -> Operation:
        """Return another function of the same weights as one operation."""
        fixed = self.fixed if fixed is None else fixed
        return dataclasses.replace(self, function=function, fixed=fixed)


@dataclasses.dataclass(frozen=True)
class _Made(Function):
    """A function made of another, sparing and turning as that one is."""

    function: Function

    def sparing(self) -> Function:
        return dataclasses.replace(self, function=self.function.sparing())

    def turning(self) -> Function:
        return dataclasses.replace(self, function=self.function.turning())


@dataclasses.dataclass(frozen=True)
class _Along(_Made):
    """The derivative of a function of which nothing better is known."""

    given: Given

    def __call__(self, *args: jax.Array) -> Arrays:
        count = sum(self.given)
        primals, tangents = args[: len(self.given)], args[len(args) - count :]
        moving = [a for a, given in zip(primals, self.given, strict=True) if given]

        def moved(*moving: jax.Array) -> Arrays:
            return self.function(*_merge(self.given, moving, primals))

        return jax.jvp(moved, tuple(moving), tangents)[1]


@dataclasses.dataclass(frozen=True)
class Turned(_Made):
    """The transpose of a function of which nothing better is known."""

    fixed: int
    wanted: Given  # of the arguments after the fixed ones
    avals: tuple[Any, ...]  # of the same

    def __call__(self, *args: jax.Array) -> Arrays:
        """Transpose the function."""
        fixed, cotangents = args[: self.fixed], args[self.fixed :]
        zeros = [jnp.zeros(a.shape, a.dtype) for a in self.avals]
        wanted = [a for a, wanted in zip(self.avals, self.wanted, strict=True) if wanted]

        def straight(*wanted: jax.Array) -> Arrays:
            return self.function(*fixed, *_merge(self.wanted, wanted, zeros))

        outputs = len(jax.eval_shape(straight, *wanted))  # fewer where it is sparing
        return jax.linear_transpose(straight, *wanted)(cotangents[:outputs])


@dataclasses.dataclass(frozen=True)
class _Batched(_Made):
    """A function of a batch; an axis is None for what all members share."""

    axes: tuple[int | None, ...]

    def __call__(self, *args: jax.Array) -> Arrays:
        return jax.vmap(self.function, self.axes)(*args)

    def along(self, given: Given, outputs: int) -> Function:
        moving = [axis for axis, given in zip(self.axes, given, strict=True) if given]
        return _Batched(self.function.along(given, outputs), (*self.axes, *[0] * outputs, *moving))

    def recording(self) -> Function:
        return dataclasses.replace(self, function=self.function.recording())

    def turned(self, fixed: int, wanted: Given, avals: tuple[Any, ...]) -> Function:
        whole = super().turned(fixed, wanted, avals)
        axes = self.axes[fixed:]
        one = tuple(
            aval if axis is None else mapped_aval(aval.shape[axis], axis, aval)
            for aval, axis in zip(avals, axes, strict=True)
        )
        each = self.function.turned(fixed, wanted, one)
        if isinstance(each, Turned):  # which JAX would rather transpose as a batch
            return whole
        back = tuple(axis for axis, wanted in zip(axes, wanted, strict=True) if wanted)
        return _TurnedBatch(each, whole, self.axes[:fixed], back)


@dataclasses.dataclass(frozen=True)
class _TurnedBatch(Function):
    """The transpose of a batch, each member's by itself.

    Attributes:
        each: the transpose of one member.
        whole: its equal, of which more is known.
        axes: of the fixed arguments.
        back: where the batch stands in what is found; None for what all members share.
    """

    each: Function
    whole: Function
    axes: tuple[int | None, ...]
    back: tuple[int | None, ...]

    def __call__(self, *args: jax.Array) -> Arrays:
        axes = (*self.axes, *[0] * (len(args) - len(self.axes)))
        found = zip(jax.vmap(self.each, axes)(*args), self.back, strict=True)
        return tuple(a.sum(0) if axis is None else jnp.moveaxis(a, 0, axis) for a, axis in found)

    def along(self, given: Given, outputs: int) -> Function:
        return self.whole.along(given, outputs)

    def turning(self) -> Function:
        return self.whole.turning()


def _merge(given: Given, some: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Take the next of `some` where it is given, else the one of `others` that stands there."""
    rest = iter(some)
    return [next(rest) if one else other for one, other in zip(given, others, strict=True)]


@functools.lru_cache(maxsize=1024)
def _shapes(function: Function, avals: tuple[Any, ...]) -> list[Any]:
    return [aval.update(weak_type=False) for aval in jax.make_jaxpr(function)(*avals).out_avals]


def _abstract(*avals: Any, operation: Operation) -> list[Any]:
    return _shapes(operation.function, avals)


def _compute(*args: jax.Array, operation: Operation) -> list[jax.Array]:
    return list(operation.function(*args))


def _jvp(primals: Any, tangents: Any, *, operation: Operation) -> tuple[Any, Any]:
    count = len(_shapes(operation.function, tuple(map(jax.typeof, primals))))
    recording = operation.of(operation.function.recording())
    outs = recording(*primals)
    given = tuple(type(tangent) is not ad.Zero for tangent in tangents)
    fixed, linear = given[: operation.fixed], given[operation.fixed :]
    sums: list[Any] = [ad.Zero(jax.typeof(out).to_tangent_aval()) for out in outs[:count]]
    if any(linear):  # the function itself: what it is given may be zeros, but is there
        moved = [ad.instantiate_zeros(tangent) for tangent in tangents[operation.fixed :]]
        sums = operation(*primals[: operation.fixed], *moved)
    if any(fixed):
        along = operation.function.along((*fixed, *[False] * len(linear)), len(outs))
        inner = operation.of(along, fixed=len(primals) + len(outs))
        moved = [tangent for tangent, given in zip(tangents, fixed, strict=False) if given]
        sums = list(map(ad.add_tangents, sums, inner(*primals, *outs, *moved)))
    return outs[:count], sums


def _transpose(cotangents: Any, *args: Any, operation: Operation) -> list[Any]:
    fixed, linear = args[: operation.fixed], args[operation.fixed :]
    wanted = tuple(ad.is_undefined_primal(arg) for arg in linear)
    avals = tuple(
        arg.aval if one else jax.typeof(arg) for arg, one in zip(linear, wanted, strict=True)
    )
    turned = operation.of(operation.function.turned(operation.fixed, wanted, avals))
    found = turned(*fixed, *map(ad.instantiate_zeros, cotangents))
    return [None] * len(fixed) + _merge(wanted, found, [None] * len(linear))


def _batch(args: Any, axes: Any, *, operation: Operation) -> tuple[Any, Any]:
    axes = tuple(axes)
    batched = tuple(axis is not None for axis in axes)
    if not (operation.one_by_one and any(batched[: operation.weights])):
        outs = operation.of(_Batched(operation.function, axes))(*args)
        return outs, [0] * len(outs)
    members = [
        jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True) if axis is not None
    ]
    sparing = operation.of(operation.function.sparing())
    outs = jax.lax.map(lambda member: sparing(*_merge(batched, member, args)), members)
    one = [mapped_aval(len(a), 0, jax.typeof(a)) for a in members]
    avals = tuple(_merge(batched, one, [jax.typeof(a) for a in args]))
    left_out = _shapes(operation.function, avals)[len(outs) :]
    zeros = [jnp.zeros(aval.shape, aval.dtype) for aval in left_out]  # which nobody reads
    return [*outs, *zeros], [0] * len(outs) + [None] * len(zeros)


_operation_p = Primitive("seqcells_operation")
_operation_p.multiple_results = True
_operation_p.def_impl(jax.jit(_compute, static_argnames="operation"))
_operation_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_operation_p] = _jvp
ad.primitive_transposes[_operation_p] = _transpose
batching.primitive_batchers[_operation_p] = _batch
mlir.register_lowering(_operation_p, mlir.lower_fun(_compute, multiple_results=True))
