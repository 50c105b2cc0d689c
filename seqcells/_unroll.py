"""Running a cell over sequences: `unroll`, `trajectory`, `select_engine`."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check, _flags
from seqcells._cell import Carry, Cell, Params, fresh_carry
from seqcells._flags import Flags
from seqcells.engines import ENGINES, Engine


def unroll(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    carry: Carry = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    time_axis: int = 0,
    engine: Engine | None = None,
) -> tuple[Carry, Any]:
    """Run a cell over sequences.

    Without flags this is the loop::

        ys = []
        for x in xs:
            carry, y = cell.step(params, carry, x)
            ys.append(y)
        return carry, jnp.stack(ys)

    At padding the carry is held and the output is zero, and nothing that stands there, NaN and
    reset flags included, touches a value or a gradient. All flags compose, also with `reverse`.

    Args:
        cell: the cell, for instance `GRU(64)`.
        params: its parameters, as `cell.init(key, D)` makes them.
        xs: float[T, *B, D]; time first, any number of batch axes, also none.
        carry: the memory before the first step; `cell.init_carry` of the inputs where None.
        lengths: int[*B]; steps from `lengths` on are padding. A length of 0 returns the initial
            carry. Values are checked when concrete; under jit a value above T counts as T and one
            below 0 as 0.
        mask: bool[T, *B]; False = padding.
        resets: bool[T, *B]; True = a new sequence starts here: the carry is replaced by a fresh one
            before x_t is read. On a padding step it is not read: set it on the first valid step.
        reverse: read each sequence from its own last valid step; ys stays in the order of time.
        time_axis: where time stands in xs, mask, resets and ys: 1 for [B, T, D].
        engine: the way through time; the best that can run this where None (`select_engine`).

    Returns:
        The carry after the last step read, and ys [T, *B, H], with time where it is in xs.

    Raises:
        TypeError: on inputs that are not floating, lengths that are not integer, masks that are not
            bool, a cell or an engine that is none.
        ValueError: on shapes that do not fit, lengths out of range, an engine that cannot run this.
    """
    xs, axis = _time_first(xs, time_axis)
    engine, flags = _select(cell, xs, lengths, mask, resets, reverse, axis, engine)
    cell, carry = _prepare(cell, params, xs, carry)
    carry, ys = engine.run(cell, params, xs, carry, flags)
    return carry, _time_back(ys, axis)


def trajectory(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    carry: Carry = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    time_axis: int = 0,
) -> Carry:
    """Return the carry after every step [T, *B, ...]; at padding, the carry that is held there.

    Args and errors are those of `unroll`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.GRU(3)
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> sc.trajectory(cell, params, jnp.ones((5, 2))).shape
    (5, 3)
    """
    xs, axis = _time_first(xs, time_axis)
    _, flags = _select(cell, xs, lengths, mask, resets, reverse, axis, None)
    cell, carry = _prepare(cell, params, xs, carry)
    step = _flags.guard(cell, params, fresh_carry(cell, xs))

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
        carry, _ = step(carry, inputs)
        return carry, carry

    inputs = (xs, flags.valid, flags.restart)
    _, carries = jax.lax.scan(body, carry, inputs, reverse=flags.reverse)
    return _time_back(carries, axis)


def select_engine(
    cell: Cell,
    xs: ArrayLike | jax.ShapeDtypeStruct,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    time_axis: int = 0,
    engine: Engine | None = None,
) -> Engine:
    """Return the engine that `unroll` takes for these arguments.

    Args and errors are those of `unroll`; xs may be a `jax.ShapeDtypeStruct`.

    >>> import jax, seqcells as sc
    >>> sc.select_engine(sc.GRU(64), jax.ShapeDtypeStruct((100, 32, 8), "float32"))
    Scan(unroll=1, checkpoint=None)
    """
    if isinstance(xs, jax.ShapeDtypeStruct):
        xs = jax.eval_shape(lambda a: _time_first(a, time_axis)[0], xs)
        axis = time_axis
    else:
        xs, axis = _time_first(xs, time_axis)
    return _select(cell, xs, lengths, mask, resets, reverse, axis, engine)[0]


def _time_first(xs: ArrayLike, time_axis: int) -> tuple[jax.Array, int]:
    """Check xs; return it with time first, and the axis counted from the front."""
    xs = jnp.asarray(xs)
    _check.floating("xs", xs.dtype, "cast it, or embed tokens first")
    if xs.ndim < 2:
        raise ValueError(f"xs: expected float[T, *B, D], at least two axes, got shape {xs.shape}")
    try:
        axis = operator.index(time_axis)
    except TypeError:
        raise TypeError(f"time_axis: expected an int, got {time_axis!r}") from None
    if not -xs.ndim <= axis < xs.ndim or axis % xs.ndim == xs.ndim - 1:
        raise ValueError(
            f"time_axis: expected an axis of xs {xs.shape} before the last, got {time_axis}"
        )
    axis %= xs.ndim
    return jnp.moveaxis(xs, axis, 0), axis


def _time_back(tree: Any, axis: int) -> Any:
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), tree)


def _select(
    cell: Cell,
    xs: Any,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
    time_axis: int,
    engine: Engine | None,
) -> tuple[Engine, Flags]:
    """Check what engines are told and choose one; xs is time first."""
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: expected a seqcells.Cell such as GRU(64), got {cell!r}")
    if engine is not None and not isinstance(engine, Engine):
        raise TypeError(f"engine: expected a seqcells.Engine such as Scan(), got {engine!r}")
    flags = _flags.make(xs, lengths, mask, resets, reverse, time_axis)
    able = [e for e in ENGINES if e.why_not(cell, xs, flags) is None]
    best = next((e for e in able if e.why_slow(cell, xs, flags) is None), able[-1])
    if engine is None:
        return best, flags
    reason = engine.why_not(cell, xs, flags)
    if reason is not None:
        raise ValueError(f"engine: {engine} cannot run {cell}: {reason}; {best} can")
    return engine, flags


def _prepare(cell: Cell, params: Params, xs: jax.Array, carry: Carry) -> tuple[Cell, Carry]:
    """Check params and carry against xs; settle the cell's dtype and the initial carry."""
    cell.check_params(params, xs.shape[-1])
    cell = cell.resolve(xs)
    fresh = fresh_carry(cell, xs)
    if carry is None:
        return cell, fresh
    if not _check.same_shapes(carry, fresh):
        raise ValueError(
            f"carry: expected {_check.describe(fresh)} for xs {xs.shape}, time first, "
            f"got {_check.describe(carry)}"
        )
    return cell, jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), carry, fresh)
