"""The base classes of cells: static configuration whose methods are pure functions of arrays."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._model import Model, check_fit, is_function, one_input
from seqcells._types import Carry, Drive, Inputs, InputSize, Mixed, Outputs, Params, Shape

if TYPE_CHECKING:
    from seqcells._flags import Flags


class Cell(Model):
    """A recurrent cell: configuration without arrays, and the functions of one step.

    A step is `drive = project(params, x)`, then `carry = recur(params, carry, drive)`, then
    `y = read(params, carry, drive)`. Only `recur` is sequential: engines may run `project` and
    `read` for all steps at once.
    """

    UNIT_WEIGHTS: ClassVar[tuple[str, ...] | None] = None
    """The names of the fields of params of which each entry reaches one unit of the carry in a
    step: a change of the entry, while the old carry is held fixed, changes no other unit of the new
    one. All leaves of the carry are [*B, *U], and a unit is an index of *U in all of them. The last
    axes of such a field are those of *U, the last one a whole number of gates over the units,
    [..., *U[:-1], G*U[-1]], and an entry reaches the unit of its indices there, the last one modulo
    U[-1]. The rules of `seqcells.online` then store no influence on other units. None declares
    nothing. A `SplitCell` declares it for configurations that can be split, and need not repeat the
    fields of INPUT_WEIGHTS and RECURRENT_WEIGHTS. Each subclass must declare it again.
    """

    @property
    def casts_params(self) -> bool:
        """Whether the methods cast the parameters to the dtype of computation themselves.

        If so, bfloat16 and float16 parameters are passed in float32. This changes no value, but
        gradients are then summed in float32 and rounded once. For other cells, the gradient of each
        step is rounded before the sum.
        """
        return False

    @abc.abstractmethod
    def project(self, params: Params, x: Inputs) -> Drive:
        """Compute the part of a step that needs no carry. x: float[*B, D], any leading axes."""

    @abc.abstractmethod
    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        """Compute the next carry: the part of a step that is sequential."""

    @abc.abstractmethod
    def read(self, params: Params, carry: Carry, drive: Drive) -> Outputs:
        """Compute the output y from the carry after the step; most cells need only the carry.

        Args:
            params: the cell's parameters.
            carry: the memory after the step; any leading axes.
            drive: the result of `project` for the step's input, with the same axes.
        """

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        """Compute the next carry, given which sequences start by a reset.

        `recur`, except in cells that treat the first step after a reset differently.

        Args:
            params: the cell's parameters.
            carry: the memory before the step; the fresh one where `fresh` is True.
            drive: the result of `project`.
            fresh: bool[*B], True where a sequence starts by a reset; None where none does.
        """
        return self.recur(params, carry, drive)

    def advance(
        self,
        params: Params,
        carry: Carry,
        x: Inputs,
        fresh: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, Outputs]:
        """Take one step with a resolved cell, after resets and checks."""
        if key is not None:
            cell, params, xs = self.noisy(params, jax.tree.map(lambda a: a[None], x), key)
            return cell.advance(params, carry, jax.tree.map(lambda a: a[0], xs), fresh)
        drive = self.project(params, x)
        carry = self.next_carry(params, carry, drive, fresh)
        return carry, self.read(params, carry, drive)

    def gates(
        self, params: Params, carry: Carry, drive: Drive, mixed: Mixed = None
    ) -> dict[str, jax.Array]:
        """Compute the gates of a step, which `recur` uses but does not return; for diagnostics.

        Args:
            params: the cell's parameters.
            carry: the memory before the step; any leading axes.
            drive: the result of `project` for the step's input, with the same axes.
            mixed: the recurrent product; `mix(params, carry)` if None.

        Returns:
            A dict from each gate's name in the cell's equations to its values from 0 to 1,
            float[*B, H]; empty for a cell without gates.
        """
        return {}

    def why_not_split(self) -> str | None:
        """Say why this cell is not one product followed by elementwise work, or return None.

        Engines that run split cells alone give this reason. One that is None is a `SplitCell`'s.
        """
        return "it is not a SplitCell"

    def noisy(self, params: Params, xs: Inputs, key: jax.Array) -> tuple[Cell, Params, Inputs]:
        """Sample this cell's noise once; return a deterministic cell, parameters and inputs.

        Args:
            params: the cell's parameters.
            xs: the inputs [T, *B, ...].
            key: one random key.

        Returns:
            A cell with a carry of the same shape, its parameters, and its inputs, a tree of arrays
            [T, *B, ...]. A cell without noise returns itself and the arguments.
        """
        return self, params, xs

    def map_features(self, function: Callable[[jax.Array], jax.Array], xs: Inputs) -> Inputs:
        """Apply a function to each array of features among the inputs, as input dropout does.

        These are the leaves of floating dtype; a cell that reads other numbers, such as times,
        leaves them as they are.
        """

        def of(a: jax.Array) -> jax.Array:
            return function(a) if jnp.issubdtype(a.dtype, jnp.floating) else a

        return jax.tree.map(of, xs)

    @property
    def settled(self) -> Cell:
        """The cell that a loop over time runs in the place of this one; most run themselves.

        A cell that computes with a function of its parameters, such as a matrix whose signs are
        fixed, names the cell that takes the result. Their carries, inputs and outputs are alike.
        """
        return self

    def settle(self, params: Params) -> Params:
        """Return the parameters of `settled`, which are computed once, before the loop."""
        return params

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` fit this cell and inputs of this size."""
        check_fit(self, params, input_size)


class SplitCell(Cell):
    """A cell whose recurrence is one product followed by elementwise work.

    `recur` is `gate(carry, drive, mix(params, carry))`. Engines use the split to give every such
    cell the same efficient derivative.
    """

    INPUT_WEIGHTS: ClassVar[tuple[str, str] | None] = None
    """The names of the fields of params that `project` uses: the matrix [D, G*H] and the bias
    [G*H], gates along the last axis. None if there is no such product. The product is in the cell's
    `dtype` if it has one, else in that of x. Engines may join both products if `gate` reads only
    their sum. Each subclass must declare it again.
    """

    RECURRENT_WEIGHTS: ClassVar[tuple[str, str | None] | None] = None
    """The names of the fields of params that `mix` applies to the first leaf of the carry: the
    matrix [H, G*H] and the bias, gates along the last axis. The bias is [G*H], or [H] if only the
    last gate has one; its name is None if there is no bias. Kernels run only cells that declare
    this. Each subclass must declare it again, because it may compute another product.
    """

    RECURRENT_MATRIX: ClassVar[str | None] = None
    """The field of params with the matrix [H, G*H] by which units read one another, a row for each
    unit that is read. `Constrained` takes a cell that declares it, or RECURRENT_WEIGHTS. A subclass
    must declare its own.
    """

    @abc.abstractmethod
    def mix(self, params: Params, carry: Carry) -> Mixed:
        """Compute the one recurrent product."""

    @abc.abstractmethod
    def gate(self, carry: Carry, drive: Drive, mixed: Mixed) -> Carry:
        """Compute the next carry, elementwise."""

    def why_not_split(self) -> str | None:
        """Return why this configuration cannot be split, or None if it can."""
        return None

    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        """Compute the next carry as `gate(carry, drive, mix(params, carry))`."""
        return self.gate(carry, drive, self.mix(params, carry))


def recurrent_matrix(cell: Cell) -> str | None:
    """Return the field of params with the matrix by which units read one another, if declared."""
    declared = vars(type(cell)) if isinstance(cell, SplitCell) else {}
    weights = declared.get("RECURRENT_WEIGHTS")
    return declared.get("RECURRENT_MATRIX") or (weights and weights[0])


class LinearCell(Cell):
    """A cell whose recurrence is linear: h_t = a_t * h_{t-1} + b_t, elementwise.

    `a_t` and `b_t` depend only on the input, so engines may run all steps at once.
    """

    @abc.abstractmethod
    def coefficients(
        self, params: Params, drive: Drive, fresh: jax.Array | None
    ) -> tuple[Carry, Carry]:
        """Compute a_t and b_t, each shaped as the carry.

        Args:
            params: the cell's parameters.
            drive: the result of `project`; any leading axes.
            fresh: bool[*B], with the leading axes of the drive: True where a sequence starts by a
                reset, for cells that write differently there. None where no sequence does.
        """

    def times(self, a: Carry, carry: Carry) -> Carry:
        """Multiply two trees of the carry's shape; by default leaf by leaf."""
        return jax.tree.map(jnp.multiply, a, carry)

    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        """Compute the next carry as `times(a, carry) + b`, in a step without a reset."""
        return self.next_carry(params, carry, drive, None)

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        """Compute the next carry as `times(a, carry) + b`."""
        a, b = self.coefficients(params, drive, fresh)
        return jax.tree.map(jnp.add, self.times(a, carry), b)


class ChunkCell(Cell):
    """A cell that can take many steps at once, by matrix products over the steps."""

    @abc.abstractmethod
    def chunk(
        self, params: Params, carry: Carry, drive: Drive, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Take the steps of a chunk, as `next_carry` and `read` would take them one by one.

        The numbers that it is given are finite.

        Args:
            params: the cell's parameters.
            carry: the memory before the first step, [*B, ...].
            drive: the result of `project` for C steps, C at least 1; all leaves [C, *B, ...].
            flags: in the order of the steps: `valid` bool[C, *B], False at padding, where the carry
                is held, or None; `restart` bool[C, *B], True where the carry is replaced before the
                step, nowhere at padding, or None; `fresh`, the carry that replaces it.

        Returns:
            The carry after the last step, and ys [C, *B, ...]; any finite number at padding.
        """


@dataclasses.dataclass(frozen=True)
class FunctionCell(Cell):
    """A cell made of a user's functions.

    The step may compute y from the old carry, so this cell has no `read`; the wrappers and
    diagnostics that need one raise. Two such cells are equal when their functions are the same
    objects: define the functions once, not in a loop.

    Args:
        step_fn: `(params, carry, x) -> (carry, y)`, one step. x is float[*B, D], unless `x_ndim`
            and `x_dtypes` say otherwise; every leaf of the carry and of y starts with the batch
            axes.
        carry_fn: `x -> carry`, the memory with which a sequence starts.
        init_fn: `(key, input_size) -> params`; needed only for `init`.
        x_ndim: the number of feature axes of x, the last ones; the axes before are batch axes.
        x_dtypes: the kinds of dtype that x may have, such as `(jnp.integer,)`.

    >>> import jax.numpy as jnp, seqcells as sc
    >>> def total(params, carry, x):
    ...     carry = carry + params * x
    ...     return carry, carry
    >>> cell = sc.FunctionCell(total, jnp.zeros_like)
    >>> carry, ys = sc.unroll(cell, jnp.float32(2.0), jnp.ones((5, 1)))
    >>> float(carry[0])
    10.0
    """

    step_fn: Callable[[Params, Carry, Inputs], tuple[Carry, Outputs]]
    carry_fn: Callable[[Inputs], Carry]
    init_fn: Callable[[jax.Array, InputSize], Params] | None = None
    # Properties in `Model`, but fields here, because the user sets them.
    x_ndim: int = 1  # pyright: ignore[reportIncompatibleMethodOverride]
    x_dtypes: tuple[type, ...] = (  # pyright: ignore[reportIncompatibleMethodOverride]
        jnp.floating,
    )

    def __post_init__(self) -> None:
        for name in ("step_fn", "carry_fn", "init_fn"):
            value = getattr(self, name)
            if not is_function(value) and not (name == "init_fn" and value is None):
                raise TypeError(f"{name}: expected a function, got {value!r}")
        _check.size("x_ndim", self.x_ndim, least=0)
        _check.kinds("x_dtypes", self.x_dtypes)

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Call `init_fn`."""
        if self.init_fn is None:
            raise TypeError("init_fn: expected (key, input_size) -> params, got None; give one")
        return self.init_fn(key, input_size)

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Call `carry_fn`."""
        return self.carry_fn(one_input(self, x))

    def project(self, params: Params, x: Inputs) -> Drive:
        """Return x: a user's step is not split, so nothing can be computed ahead of time."""
        return x

    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        """Return the carry of `step_fn`."""
        return self.step_fn(params, carry, drive)[0]

    def read(self, params: Params, carry: Carry, drive: Drive) -> Outputs:
        """Raise: `step_fn` may compute y from the old carry, which is gone after the step."""
        raise TypeError(
            "cell: expected one with `read`, got a FunctionCell, whose step may compute y from the "
            "old carry; write a Cell subclass"
        )

    def advance(
        self,
        params: Params,
        carry: Carry,
        x: Inputs,
        fresh: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, Outputs]:
        """Call `step_fn`."""
        return self.step_fn(params, carry, x)

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Accept anything: the parameters are the user's own."""


def zero_carry(x: jax.Array, shape: Shape, dtype: DTypeLike) -> jax.Array:
    """Make zeros [*B, *shape], sharded like the batch axes of x [*B, D].

    `jnp.zeros` would be replicated under a sharded batch and cost all-gathers in the loop.
    """
    rows = jnp.zeros_like(jnp.sum(x, axis=-1), dtype=dtype)  # [*B], also for D = 0
    last = tuple(range(rows.ndim, rows.ndim + len(shape)))
    return jnp.broadcast_to(jnp.expand_dims(rows, last), (*rows.shape, *shape))
