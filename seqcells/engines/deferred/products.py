"""The products of a step, in three forms of different speed.

A step multiplies its input x and its carry h by a matrix each, and the gates read both products::

    rows       x W and h U, with a row for each sequence, as the cell computes them
    joined     (x, h) (W; U): one product, for gates that read only the sum of the two
    columns    x W and (U^T h^T)^T, with a column for each sequence

In every step, XLA copies one operand of a product into another layout: for h U the matrix, for
U^T h^T it is h. Columns are therefore faster if the matrix is too large for a cache, and about as
fast otherwise.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqcells._cell import Cell, SplitCell
from seqcells._linear import affine, of_all_gates
from seqcells._static import Static
from seqcells._types import Carry, Drive, Mixed, Params, PyTree, Shaped, TreeDef
from seqcells.engines.deferred import slopes
from seqcells.engines.deferred.primitive import Arrays, Avals, Function, Marks, Operation
from seqcells.engines.deferred.shapes import step_shapes, twins

MixJvp = Callable[[Carry, Carry], Mixed]  # (carry, its tangent) -> the tangent of `mix`


@dataclasses.dataclass(frozen=True)
class Rows(Static):
    """The products as the cell computes them."""

    def why_not(self, cell: SplitCell, xs: Shaped) -> str | None:
        """Return why the products of a cell cannot be computed in this form, or None."""
        return None

    def prepare(self, cell: SplitCell, params: Params, xs: Shaped, carry: Carry) -> PyTree:
        """Compute, once before the loop, the functions of params that `both` and `mix` need."""
        return None

    def both(
        self, cell: SplitCell, params: Params, prepared: PyTree, x: jax.Array, carry: Carry
    ) -> tuple[Drive, Mixed]:
        """Return the drive and the mixed of one step, or two values with the same sum."""
        return cell.project(params, x), self.mix(cell, params, prepared, carry)

    def mix(self, cell: SplitCell, params: Params, prepared: PyTree, carry: Carry) -> Mixed:
        """Return the mixed of one step."""
        return cell.mix(params, carry)

    def mix_jvp(self, cell: SplitCell, params: Params, transposed: Params) -> MixJvp:
        """Return the function that computes the tangent of `mix` for a tangent of the carry.

        Args:
            cell: the cell.
            params: its parameters.
            transposed: the parameters, each transposed; or None.
        """
        if transposed is None:
            return functools.partial(_jvp_of_mix, cell, params)

        def pretransposed(carry: Carry, d_carry: Carry) -> Mixed:
            args, structure = jax.tree.flatten((params, transposed, carry, d_carry))
            operation = Operation(
                PretransposedMixJvp(cell, structure),
                nonlinear=len(args) - len(jax.tree.leaves(d_carry)),
                weights=2 * len(jax.tree.leaves(transposed)),
            )
            mixed = jax.tree.structure(jax.eval_shape(cell.mix, params, carry))
            return jax.tree.unflatten(mixed, operation(*args))

        return pretransposed


@dataclasses.dataclass(frozen=True)
class Joined(Rows):
    """One product of (x, h), for gates that read only the sum of the two products."""

    def why_not(self, cell: SplitCell, xs: Shaped) -> str | None:
        """Return why the products of a cell cannot be joined, or None."""
        if vars(type(cell)).get("INPUT_WEIGHTS") is None:
            return f"its class {type(cell).__name__} declares no INPUT_WEIGHTS"
        step = step_shapes(cell, xs)
        drives, first = len(jax.tree.leaves(step.drive)), twins(cell, xs)
        before = len(jax.tree.leaves(step.carry))
        if first[before:] != [*range(before, before + drives)] * 2:
            return "its gates read more than the sum of both products"
        return why_not_declared(cell)

    def prepare(
        self, cell: SplitCell, params: Params, xs: Shaped, carry: Carry
    ) -> tuple[jax.Array, jax.Array | None]:
        """Return (W; U), and the sum of the biases."""
        dtype = _dtype(carry)
        w, b = declared(params, cell.INPUT_WEIGHTS)
        u, c = declared(params, cell.RECURRENT_WEIGHTS)
        joined = jnp.concatenate([_rounded(cell, xs, w).astype(dtype), u.astype(dtype)])
        biases = [None if a is None else a.astype(dtype) for a in (b, of_all_gates(c, u.shape[1]))]
        return joined, slopes.total(*biases)

    def both(
        self, cell: SplitCell, params: Params, prepared: PyTree, x: jax.Array, carry: Carry
    ) -> tuple[Drive, Mixed]:
        """Return the sum of the drive and the mixed of one step, and zeros."""
        h, (w, b) = jax.tree.leaves(carry)[0], prepared
        x = _rounded(cell, x, x).astype(h.dtype)
        sums = affine(jnp.concatenate([x, h], -1), w, b, h.dtype)
        drive = _gates(sums, jax.eval_shape(cell.project, params, x))
        mixed = jax.tree.structure(jax.eval_shape(cell.mix, params, carry))
        # Zeros that vary over the axes of a `shard_map` like the sums.
        return drive, jax.tree.unflatten(mixed, map(jnp.zeros_like, jax.tree.leaves(drive)))


@dataclasses.dataclass(frozen=True)
class Columns(Rows):
    """The recurrent product with a column for each sequence."""

    def why_not(self, cell: SplitCell, xs: Shaped) -> str | None:
        """Return why the recurrent product of a cell cannot be computed by columns, or None."""
        return why_not_declared(cell)

    def prepare(self, cell: SplitCell, params: Params, xs: Shaped, carry: Carry) -> Arrays:
        """Return U and its transpose."""
        u = declared(params, cell.RECURRENT_WEIGHTS)[0].astype(_dtype(carry))
        return u, u.T

    def mix(self, cell: SplitCell, params: Params, prepared: PyTree, carry: Carry) -> Mixed:
        """Return the mixed of one step."""
        out = _by_columns(prepared, jax.tree.leaves(carry)[0])
        c = of_all_gates(declared(params, cell.RECURRENT_WEIGHTS)[1], out.shape[-1])
        shape = jax.eval_shape(cell.mix, params, carry)
        return _gates(out if c is None else out + c.astype(out.dtype), shape)

    def mix_jvp(self, cell: SplitCell, params: Params, transposed: Params) -> MixJvp:
        """Return the function that computes the tangent of `mix` for a tangent of the carry."""

        def by_columns(carry: Carry, d_carry: Carry) -> Mixed:
            u = declared(params, cell.RECURRENT_WEIGHTS)[0]
            u_t = u.T if transposed is None else declared(transposed, cell.RECURRENT_WEIGHTS)[0]
            pair = u.astype(_dtype(carry)), u_t.astype(_dtype(carry))
            out = _by_columns(pair, jax.tree.leaves(d_carry)[0])
            return _gates(out, jax.eval_shape(cell.mix, params, carry))

        return by_columns


FORMS = {"rows": Rows(), "joined": Joined(), "columns": Columns()}


@dataclasses.dataclass(frozen=True)
class ByColumns(Function):
    """The product h U as (U^T h^T)^T, a function of (U, U^T, h), or the product with U^T."""

    transposed: bool = False

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the product, [*B, O]."""
        u, u_t, h = args
        left = u if self.transposed else u_t
        batch = h.shape[:-1]
        if len(batch) == 1:
            h = jnp.pad(h, ((0, whole_columns(*batch) - batch[0]), (0, 0)))
        # The barriers keep XLA from turning this into a product of rows again.
        left, h = jax.lax.optimization_barrier((left, h))
        out = jax.lax.dot_general(left, h, (((1,), (h.ndim - 1,)), ((), ())))
        out = jnp.moveaxis(jax.lax.optimization_barrier(out), 0, -1)
        return (out[: batch[0]] if len(batch) == 1 else out,)

    def transpose(self, nonlinear: int, undefined: Marks, avals: Avals) -> Function:
        """Return the product with the other matrix."""
        return ByColumns(not self.transposed)


@dataclasses.dataclass(frozen=True)
class PretransposedMixJvp(Function):
    """The tangent of `mix`: a function of (params, transposed params, carry, tangent of carry).

    On a CPU a product with a matrix is faster than one with its transpose. The transpose of this
    function multiplies by matrices that were transposed before the loop.
    """

    cell: SplitCell
    structure: TreeDef  # of (params, params, carry, tangent)
    for_transpose: bool = False

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the tangent of `mix`."""
        params, transposed, carry, d_carry = jax.tree.unflatten(self.structure, args)
        if self.for_transpose:  # the barrier keeps XLA from hoisting the line below
            transposed, carry = jax.lax.optimization_barrier((transposed, carry))
            params = jax.tree.map(jnp.transpose, transposed)
        return tuple(jax.tree.leaves(_jvp_of_mix(self.cell, params, carry, d_carry)))

    def pretranspose(self) -> Function:
        """Return the function of transposed matrices, whose transpose reads them as they are."""
        return dataclasses.replace(self, for_transpose=True)


def whole_columns(count: int) -> int:
    """Return the next number of columns that fills registers: 4, 8, 16, 20, 24, 32, 36, ...

    A product of 10 columns takes longer than one of 16: XLA multiplies 16, 8 or 4 at once.
    """
    return next(n for n in itertools.count(count) if n % 16 in (0, 4, 8))


def why_not_declared(cell: Cell) -> str | None:
    """Return why the recurrent product of a cell is not known, or None.

    Each class must declare its own product, because a subclass may compute another one.
    """
    if isinstance(cell, SplitCell) and vars(type(cell)).get("RECURRENT_WEIGHTS") is not None:
        return None
    return f"its class {type(cell).__name__} declares no RECURRENT_WEIGHTS"


def declared(
    params: Params, names: tuple[str, str | None] | None
) -> tuple[jax.Array, jax.Array | None]:
    """Return the matrix and the bias that a cell declares; the bias may be None."""
    if names is None:
        raise TypeError("cell: expected declared weights, got none")
    w, b = names
    return getattr(params, w), None if b is None else getattr(params, b)


def _rounded(cell: SplitCell, x: Shaped, a: jax.Array) -> jax.Array:
    """Cast an operand of the input's product to the dtype of that product."""
    own = getattr(cell, "dtype", None)
    return a.astype(x.dtype if own is None else own)


def _by_columns(prepared: Arrays, h: jax.Array) -> jax.Array:
    return Operation(ByColumns(), nonlinear=2, weights=2)(*prepared, h)[0]


def _gates(a: jax.Array, like: PyTree) -> PyTree:
    """Cut the last axis into the leaves of a tree of shapes."""
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, jnp.split(a, len(leaves), axis=-1))


def _dtype(carry: Carry) -> jnp.dtype:
    return jax.tree.leaves(carry)[0].dtype


def _jvp_of_mix(cell: SplitCell, params: Params, carry: Carry, d_carry: Carry) -> Mixed:
    return jax.jvp(lambda carry: cell.mix(params, carry), (carry,), (d_carry,))[1]
