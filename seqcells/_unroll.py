"""Running cells and layers over sequences: `unroll`, `trajectory`, `select_engine`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check, _flags, _shares
from seqcells._calls import explained
from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._inputs import check_xs, time_back, time_first, to_front
from seqcells._layer import Start, Time
from seqcells._model import (
    Model,
    as_arrays,
    carry_shapes,
    fresh_carry,
    leading,
    like,
    rows_spec,
    steady,
)
from seqcells._static import Static
from seqcells._trees import closed_over, scan, select, shard_rows, sharded_alike, silence
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells.engines import ENGINES, Engine, Plan
from seqcells.engines._engine import best
from seqcells.engines._platform import varying

M = TypeVar("M", bound=Model)


@explained
def unroll(
    model: Model,
    params: Params,
    xs: Inputs,
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
) -> tuple[Carry, Outputs]:
    """Run a cell or a layer over sequences.

    Without flags this is the loop::

        ys = []
        for x in xs:
            carry, y = model.step(params, carry, x)
            ys.append(y)
        return carry, jnp.stack(ys)

    At padded steps the carry stays unchanged and the output is zero. Values in the padding, even
    NaN, and resets there never affect outputs or gradients. (A cell of your own must have a
    derivative where x is zero: padding shows it zeros.) All flags compose, also with `reverse`.

    Args:
        model: the cell or layer, for instance `GRU(64)`.
        params: its parameters, as `model.init(key, D)` makes them.
        xs: float[T, *B, D]; time first, any number of batch axes, or none. A model whose `x_ndim`
            and `x_dtypes` say so reads other trailing axes, or integers. Your own model may read a
            pytree of arrays (a NamedTuple or a dict, but no list), all [T, *B, ...].
        carry: the memory before the first step; `reset_carry` if None.
        lengths: int[*B]; steps from `lengths` on are padding. A length of 0 returns the initial
            carry. Values are checked if they are concrete; under jit they are clipped to 0..T
            instead, unless `seqcells.debug.checked` wraps the jitted function.
        mask: bool[T, *B]; False = padding.
        resets: bool[T, *B]; True = a new sequence starts here: the carry is replaced by a fresh one
            before x_t is read. It is ignored at a padded step: set it on the first valid step.
        reset_carry: the carry that each sequence starts from, also after a reset; same structure
            and shapes as the carry. None means `model.init_carry`.
        reverse: read each sequence backwards from its last valid step; ys stays in the order of
            time. In a layer this turns the direction of every cell, also in a `Bidirectional`.
        time_axis: the axis of time in xs, mask, resets and ys: 1 for [B, T, D].
        engine: how the loop is run; None picks the fastest engine that supports these arguments
            (`select_engine`). In a layer, it applies to all cells without an engine of their own.
        key: one random key for noise, such as that of `Zoneout`; None means evaluation, and models
            without noise ignore it.

    Returns:
        The carry after the last step read, and ys [T, *B, H], with the same time axis as xs.

    Raises:
        TypeError: if the inputs have the wrong dtype, lengths are not integers, masks are not bool,
            or `model` or `engine` has the wrong type.
        ValueError: if shapes do not fit, lengths are out of range, or the engine cannot run this
            model.
    """
    xs, axis = time_first(model, xs, time_axis)
    if key is not None:
        _check.key("key", key)
    if engine is not None:
        _check.instance("engine", engine, Engine, "Scan()")
    lead, params = leading(model, xs), as_arrays(params)
    flags = _flags.make(lead, lengths, mask, resets, axis)
    call = _Unroll(model, _check.flag("reverse", reverse), engine)
    carry, ys = _shares.run(call, lead, (params, key), (xs, flags), (carry, reset_carry))
    return carry, time_back(ys, axis)


@explained
def trajectory(
    model: Model,
    params: Params,
    xs: Inputs,
    carry: Carry = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_carry: Carry = None,
    reverse: bool = False,
    time_axis: int = 0,
) -> Carry:
    """Return the carry after every step [T, *B, ...]; at padding, the unchanged carry.

    Arguments and errors are those of `unroll`. A layer that cannot step has no such carry and
    raises a ValueError.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.GRU(3)
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> sc.trajectory(cell, params, jnp.ones((5, 2))).shape
    (5, 3)
    """
    xs, axis = time_first(model, xs, time_axis)
    lead, params = leading(model, xs), as_arrays(params)
    flags = _flags.make(lead, lengths, mask, resets, axis, reverse)
    arrays = (params, None), (xs, flags), (carry, reset_carry)
    _, carries = _shares.run(_Trajectory(model), lead, *arrays)
    return time_back(carries, axis)


@explained
def select_engine(
    cell: Cell,
    xs: Inputs,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    time_axis: int = 0,
    engine: Engine | None = None,
) -> Engine:
    """Return the engine that `unroll` uses for these arguments.

    Arguments and errors are those of `unroll`; xs may hold `jax.ShapeDtypeStruct` instead of
    arrays.

    >>> import jax, seqcells as sc
    >>> engine = sc.select_engine(sc.GRU(64), jax.ShapeDtypeStruct((100, 32, 8), "float32"))
    >>> type(engine).__name__, engine.chunk, engine.keep
    ('Deferred', 100, ('slopes',))
    """
    _check.instance("cell", cell, Cell, "GRU(64)")
    if engine is not None:
        _check.instance("engine", engine, Engine, "Scan()")
    xs, axis = check_xs(cell, xs, time_axis)
    shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(xs))
    first = jax.eval_shape(lambda xs: to_front(xs, axis), xs) if shapes else to_front(xs, axis)
    flags = _flags.make(leading(cell, first), lengths, mask, resets, axis, reverse)
    return _select(cell.settled, first, flags, engine).engine


@dataclasses.dataclass(frozen=True)
class Call(Static):
    """A call of `unroll` or `trajectory` without its arrays.

    The arrays are grouped as in `_shares.Call`: (params, key), (xs, flags), (carry, reset_carry).
    """

    model: Model

    def checked(self, whole: PyTree, steps: PyTree, rows: PyTree) -> tuple[PyTree, Carry]:
        """Check the whole batch; return the given carries as arrays, and the first carry.

        A carry that is not given is made on each core, so that its gradient joins the single sum.
        """
        (params, _), (xs, flags, *_), (carry, reset_carry) = whole, steps, rows
        _, first, ready = prepare(self.model, params, xs, carry, flags, reset_carry)
        given = None if carry is None else first, None if reset_carry is None else ready.fresh
        return given, first


@dataclasses.dataclass(frozen=True)
class _Unroll(Call):
    reverse: bool
    engine: Engine | None

    def run(self, whole: PyTree, steps: PyTree, rows: PyTree) -> tuple[Carry, Outputs]:
        (params, key), (xs, flags), (carry, reset_carry) = whole, steps, rows
        time = EveryStep(flags, self.reverse, self.engine)
        if isinstance(self.model, Cell):
            return time.cell(self.model, params, xs, Start(carry, reset_carry), key)
        _, carry, ready = prepare(self.model, params, xs, carry, flags, reset_carry)
        return time.run(self.model, params, xs, Start(carry, ready.fresh), key)


@dataclasses.dataclass(frozen=True)
class _Trajectory(Call):
    def run(self, whole: PyTree, steps: PyTree, rows: PyTree) -> tuple[Carry, Carry]:
        (params, _), (xs, flags), (carry, reset_carry) = whole, steps, rows
        model, carry, flags = prepare(self.model, params, xs, carry, flags, reset_carry)
        return (), _carries(model, params, xs, carry, flags)


@dataclasses.dataclass(frozen=True)
class EveryStep(Time):
    """All steps of the sequences.

    Attributes:
        flags: lengths, masks and resets, for reading forward.
        reverse: whether all cells read in the other direction.
        engine: the engine of cells that name none; None selects the fastest.
    """

    flags: Flags
    reverse: bool = False
    engine: Engine | None = None

    def cell(
        self,
        cell: Cell,
        params: Params,
        xs: Inputs,
        start: Start,
        key: jax.Array | None,
        *,
        reverse: bool = False,
        engine: Engine | None = None,
    ) -> tuple[Carry, Outputs]:
        """Unroll a cell over xs [T, *B, ...], which were checked before."""
        flags, engine = self.read(reverse).over(leading(cell, xs)), engine or self.engine
        cell, params, xs, carry, flags = begin(cell, params, xs, start, flags, key)
        return run_plan(_select(cell, xs, flags, engine), params, xs, carry, flags)

    def read(self, reverse: bool) -> Flags:
        """Return the flags in the reading order of the enclosing layer, or in the opposite one."""
        return self.flags.backward() if reverse != self.reverse else self.flags

    def each(self, function: Callable[[Inputs], Outputs], xs: Inputs) -> Outputs:
        """Call the function for every step of xs [T, *B, ...]."""
        return jax.vmap(function)(xs)

    def delay(self, xs: jax.Array, start: Start) -> tuple[jax.Array, jax.Array]:
        """Delay xs [T, *B, ...] in the order of reading; padding shows what it holds."""
        flags = self.read(reverse=False)
        restarted = _flags.begins_fresh(flags)
        first = start.carry if restarted is None else select(restarted, start.fresh, start.carry)
        if xs.shape[0] == 0:
            return first, xs
        way = slice(None, None, -1 if flags.reverse else 1)
        first, _ = sharded_alike(first[None], xs[:1])
        read = jnp.concatenate([first, xs[way]])  # [T + 1, *B, ...]
        if flags.valid is None:
            last, before = read[-1], read[:-1]
        else:
            steps = jnp.arange(1, read.shape[0]).reshape(-1, *[1] * (flags.valid.ndim - 1))
            seen = jax.lax.cummax(jnp.where(flags.valid[way], steps, 0))  # the last one, [T, *B]
            seen = jnp.concatenate([jnp.zeros_like(seen[:1]), seen])
            seen = seen.reshape(seen.shape + (1,) * (xs.ndim - seen.ndim))
            held = jnp.take_along_axis(read, seen, axis=0)
            last, before = held[-1], held[:-1]
        if flags.restart is not None:
            before = select(flags.restart[way], jnp.broadcast_to(start.fresh, xs.shape), before)
        return last, before[way]

    def silence(self, tree: PyTree) -> PyTree:
        """Set padded steps to zero."""
        return silence(self.flags.valid, tree)


def begin(
    cell: Cell, params: Params, xs: Inputs, start: Start, flags: Flags, key: jax.Array | None
) -> tuple[Cell, Params, Inputs, Carry, Flags]:
    """Return what an engine is given for a cell: resolved, with its noise drawn, and settled."""
    cell, carry, flags = prepare(cell, params, xs, start.carry, flags, start.fresh)
    restarted = None if start.carry is None else _flags.begins_fresh(flags)
    if restarted is not None:
        carry = select(restarted, flags.fresh, carry)
    if key is None:
        return cell.settled, cell.settle(params), xs, carry, flags
    noisy, params, xs = cell.noisy(params, xs, key)
    return noisy.settled, noisy.settle(params), xs, carry, flags


# One jitted function for all calls: eager calls with equal cells and shapes then compile once.
@functools.partial(jax.jit, inline=True)
def run_plan(
    plan: Plan, params: Params, xs: Inputs, carry: Carry, flags: Flags
) -> tuple[Carry, Outputs]:
    """Run the engine of a plan."""
    params = closed_over(params)[0] if plan.cell.casts_params else params
    with steady(plan.cell, params, xs):
        return plan.run(params, xs, carry, flags)


@functools.partial(jax.jit, inline=True)
def _carries(model: Model, params: Params, xs: Inputs, carry: Carry, flags: Flags) -> Carry:
    step = _flags.guard(model, params, flags.fresh)

    def body(carry: Carry, inputs: _flags.Guarded) -> tuple[Carry, Carry]:
        carry, _ = step(carry, inputs)
        return carry, carry

    inputs = (xs, flags.valid, flags.restart)
    with steady(model, params, xs):
        return scan(body, carry, inputs, reverse=flags.reverse)[1]


def prepare(
    model: M, params: Params, xs: Inputs, carry: Carry, flags: Flags, reset_carry: Carry = None
) -> tuple[M, Carry, Flags]:
    """Check params and carries against xs; resolve the model's dtype and the carries."""
    resolved = model.resolve(xs)
    model.check_params(params, model.input_size(xs))
    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    if reset_carry is None:
        fresh = fresh_carry(resolved, xs, params)
    else:
        fresh = like("reset_carry", reset_carry, carry_shapes(resolved, first, params), xs)
    if carry is None:
        carry = fresh
    else:
        carry = like("carry", carry, fresh, xs, _exchanged(leading(model, xs), carry, fresh))
    fresh, carry = shard_rows((fresh, carry), rows_spec(model, xs)[1:])
    fresh, carry = varying((fresh, carry), (params, xs, flags, carry))
    return resolved, carry, dataclasses.replace(flags, fresh=fresh)


def _exchanged(steps: tuple[int, ...], carry: Carry, fresh: Carry) -> str:
    """Return a hint if the carry fits xs with its first axis as the batch."""
    got, expected = ([jnp.shape(a) for a in jax.tree.leaves(tree)] for tree in (carry, fresh))
    if got and got == [steps + shape for shape in expected] and len(steps) == 1:
        return "; xs looks like one step of a batch: call step, or write xs[None]"
    if len(steps) > 1 and got == [steps[:1] + shape[1:] for shape in expected]:
        return "; time and batch of xs look exchanged: see time_axis"
    return ""


def _select(cell: Cell, xs: Inputs, flags: Flags, engine: Engine | None) -> Plan:
    """Choose an engine, or check the one that is named, and resolve its options."""
    chosen = best(ENGINES, cell, xs, flags)
    if engine is None:
        return chosen.resolve(cell, xs, flags)
    reason = engine.why_not(cell, xs, flags)
    if reason is not None:
        raise ValueError(f"engine: {engine} cannot run {cell}: {reason}; {chosen} can")
    return engine.resolve(cell, xs, flags)
