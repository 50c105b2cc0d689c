"""Running a cell over sequences: `unroll`, `trajectory`, `select_engine`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check, _flags
from seqcells._cell import Carry, Cell, Params, fresh_carry
from seqcells._flags import Flags
from seqcells.engines import ENGINES, Engine, Plan
from seqcells.engines._engine import best
from seqcells.engines._platform import varying


def unroll(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    carry: Carry = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_carry: Carry = None,
    reverse: bool = False,
    time_axis: int = 0,
    engine: Engine | None = None,
    key: jax.Array | None = None,
) -> tuple[Carry, Any]:
    """Run a cell over sequences.

    Without flags this is the loop::

        ys = []
        for x in xs:
            carry, y = cell.step(params, carry, x)
            ys.append(y)
        return carry, jnp.stack(ys)

    At padding the carry is held and the output is zero, and nothing that stands there, NaN and
    reset flags included, touches a value or a gradient. (A cell of your own must have a derivative
    where x is zero: padding shows it zeros.) All flags compose, also with `reverse`.

    Args:
        cell: the cell, for instance `GRU(64)`.
        params: its parameters, as `cell.init(key, D)` makes them.
        xs: float[T, *B, D]; time first, any number of batch axes, also none.
        carry: the memory before the first step; `reset_carry` where None.
        lengths: int[*B]; steps from `lengths` on are padding. A length of 0 returns the initial
            carry. Values are checked when concrete; under jit a value above T counts as T and one
            below 0 as 0, unless `jax.experimental.checkify.checkify` is around it, which finds it.
        mask: bool[T, *B]; False = padding.
        resets: bool[T, *B]; True = a new sequence starts here: the carry is replaced by a fresh one
            before x_t is read. On a padding step it is not read: set it on the first valid step.
        reset_carry: the fresh carry, one for every sequence; `cell.init_carry` of the inputs where
            None.
        reverse: read each sequence from its own last valid step; ys stays in the order of time.
        time_axis: where time stands in xs, mask, resets and ys: 1 for [B, T, D].
        engine: the way through time; the best that can run this where None (`select_engine`).
        key: one random key for cells that draw random numbers, such as `Zoneout`; where None they
            do as in evaluation, and other cells take no notice.

    Returns:
        The carry after the last step read, and ys [T, *B, H], with time where it is in xs.

    Raises:
        TypeError: on inputs that are not floating, lengths that are not integer, masks that are not
            bool, a cell or an engine that is none.
        ValueError: on shapes that do not fit, lengths out of range, an engine that cannot run this.
    """
    xs, axis = time_first(xs, time_axis)
    if key is not None:
        _check.key("key", key)
    flags = _flags.make(xs, lengths, mask, resets, axis, reverse)
    carry, ys = run(cell, params, xs, carry, flags, reset_carry, engine, key)
    return carry, time_back(ys, axis)


def trajectory(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    carry: Carry = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_carry: Carry = None,
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
    xs, axis = time_first(xs, time_axis)
    flags = _flags.make(xs, lengths, mask, resets, axis, reverse)
    cell, carry, flags = prepare(cell, params, xs, carry, flags, reset_carry)
    return time_back(_carries(cell, params, xs, carry, flags), axis)


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
    Deferred(chunk=50, keep=('mixed',), project_ahead=False, vmap_sequentially=True, unroll=1)
    """
    if isinstance(xs, jax.ShapeDtypeStruct):
        axis = check_xs(xs, time_axis)
        first = jax.eval_shape(lambda a: jnp.moveaxis(a, axis, 0), xs)
    else:
        first, axis = time_first(xs, time_axis)
    flags = _flags.make(first, lengths, mask, resets, axis, reverse)
    return _select(cell, first, flags, engine).engine


def run(
    cell: Cell,
    params: Params,
    xs: jax.Array,
    carry: Carry,
    flags: Flags,
    reset_carry: Carry = None,
    engine: Engine | None = None,
    key: jax.Array | None = None,
) -> tuple[Carry, Any]:
    """Do what `unroll` does, for xs [T, *B, D], flags and a key that are checked already."""
    cell, carry, flags = prepare(cell, params, xs, carry, flags, reset_carry)
    if key is not None:
        cell, params, xs = cell.noisy(params, xs, key)
    return run_plan(_select(cell, xs, flags, engine), params, xs, carry, flags)


# One jitted function for all calls: eager calls with equal cells and shapes then compile once.
@functools.partial(jax.jit, inline=True)
def run_plan(plan: Plan, params: Params, xs: Any, carry: Carry, flags: Flags) -> tuple[Carry, Any]:
    """Run an engine whose choices are all made."""
    return plan.run(params, xs, carry, flags)


@functools.partial(jax.jit, inline=True)
def _carries(cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags) -> Carry:
    step = _flags.guard(cell, params, flags.fresh)

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
        carry, _ = step(carry, inputs)
        return carry, carry

    inputs = (xs, flags.valid, flags.restart)
    return jax.lax.scan(body, carry, inputs, reverse=flags.reverse)[1]


def check_xs(xs: Any, time_axis: int) -> int:
    """Check xs, an array or its shape; return the axis of time counted from the front."""
    _check.floating("xs", xs.dtype, "cast it, or embed tokens first")
    if xs.ndim < 2:
        raise ValueError(f"xs: expected float[T, *B, D], at least two axes, got shape {xs.shape}")
    axis = _check.integer("time_axis", time_axis)
    if not -xs.ndim <= axis < xs.ndim or axis % xs.ndim == xs.ndim - 1:
        raise ValueError(
            f"time_axis: expected an axis of xs {xs.shape} before the last, got {time_axis}"
        )
    return axis % xs.ndim


def time_first(xs: ArrayLike, time_axis: int = 0) -> tuple[jax.Array, int]:
    """Check xs; return it with time first, and the axis counted from the front."""
    array = _check.array("xs", xs, "float[T, *B, D]; pad ragged sequences and give lengths")
    axis = check_xs(array, time_axis)
    return jnp.moveaxis(array, axis, 0), axis


def time_back(tree: Any, axis: int) -> Any:
    """Move time from the front to `axis`."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), tree)


def prepare(
    cell: Cell, params: Params, xs: jax.Array, carry: Carry, flags: Flags, reset_carry: Carry = None
) -> tuple[Cell, Carry, Flags]:
    """Check params and carries against xs; settle the cell's dtype and the carries."""
    _check.instance("cell", cell, Cell, "GRU(64)")
    cell.check_params(params, xs.shape[-1])
    cell = cell.resolve(xs)
    fresh = fresh_carry(cell, xs)
    if reset_carry is not None:
        fresh = _like("reset_carry", reset_carry, fresh, xs)
    carry = fresh if carry is None else _like("carry", carry, fresh, xs)
    fresh, carry = varying((fresh, carry), (params, xs, flags, carry))
    return cell, carry, dataclasses.replace(flags, fresh=fresh)


def _like(name: str, carry: Carry, fresh: Carry, xs: jax.Array) -> Carry:
    """Return a carry in the dtypes of the fresh one, or raise."""
    if not _check.same_shapes(carry, fresh) or not _check.same_kinds(carry, fresh):
        raise ValueError(
            f"{name}: expected {_check.describe(fresh)} for xs {xs.shape}, time first, "
            f"got {_check.describe(carry)}"
        )
    return jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), carry, fresh)


def _select(cell: Cell, xs: Any, flags: Flags, engine: Engine | None) -> Plan:
    """Choose an engine, or check the one that is named, and resolve its options."""
    _check.instance("cell", cell, Cell, "GRU(64)")
    if engine is not None:
        _check.instance("engine", engine, Engine, "Scan()")
    chosen = best(ENGINES, cell, xs, flags)
    if engine is None:
        return chosen.resolve(cell, xs, flags)
    reason = engine.why_not(cell, xs, flags)
    if reason is not None:
        raise ValueError(f"engine: {engine} cannot run {cell}: {reason}; {chosen} can")
    return engine.resolve(cell, xs, flags)
