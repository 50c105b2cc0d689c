"""How diagnostics read sequences: lengths, masks, resets and directions, as in `unroll`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check, _flags
from seqcells._flags import Flags
from seqcells._inputs import time_first
from seqcells._model import Model, leading
from seqcells._trees import select, silence
from seqcells._types import Carry, Inputs, Params, PyTree
from seqcells._unroll import _carries, prepare


class OneWay(TypedDict, total=False):
    """How sequences without resets are read; all as in `unroll`."""

    lengths: ArrayLike | None  # int[*B]; steps from there on are padding
    mask: ArrayLike | None  # bool[T, *B]; False = padding
    reverse: bool  # whether each sequence is read backwards from its last step
    time_axis: int  # the axis of time in xs, masks, resets and results by step


class Reading(OneWay, total=False):
    """How sequences are read; all as in `unroll`."""

    resets: ArrayLike | None  # bool[T, *B]; True = a new sequence starts here
    reset_carry: Carry  # the carry that it starts from


class Begun(NamedTuple):
    """The checked arguments of a diagnostic."""

    model: Model  # resolved
    xs: Inputs  # time first
    carry: Carry
    flags: Flags  # in reading order
    axis: int  # axis of time in the arguments
    forward: Flags  # in the order of time


def begin(
    model: Model,
    params: Params,
    xs: Inputs,
    carry: Carry,
    reading: Mapping[str, object],
    kind: type = Reading,
) -> Begun:
    """Check the arguments of a diagnostic; `kind` lists what its `**reading` may hold."""
    names = [*OneWay.__annotations__, *(Reading.__annotations__ if kind is Reading else ())]
    for name in reading.keys() - names:
        raise TypeError(f"{name}: expected one of {', '.join(dict.fromkeys(names))}, got {name!r}")
    given: dict[str, Any] = dict(reading)
    xs, axis = time_first(model, xs, given.get("time_axis", 0))
    said = (given.get(name) for name in ("lengths", "mask", "resets"))
    forward = _flags.make(leading(model, xs), *said, time_axis=axis)
    reverse = _check.flag("reverse", given.get("reverse", False))
    flags = forward.backward() if reverse else forward
    model, carry, flags = prepare(model, params, xs, carry, flags, given.get("reset_carry"))
    return Begun(model, xs, carry, flags, axis, forward)


def before(begun: Begun, params: Params) -> Carry:
    """Return the carry before every step, [T, *B, ...]; at a reset, the fresh one."""
    flags, first = begun.flags, begun.carry
    after = _carries(begun.model, params, begun.xs, first, flags)

    def shifted(start: jax.Array, a: jax.Array) -> jax.Array:
        parts = (a[1:], start[None]) if flags.reverse else (start[None], a[:-1])
        return jnp.concatenate(parts) if len(a) else a

    shift = jax.tree.map(shifted, first, after)
    if flags.restart is None:
        return shift
    fresh = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), flags.fresh, shift)
    return select(flags.restart, fresh, shift)


def by_lag(rows: PyTree, flags: Flags) -> PyTree:
    """Order steps [T, *B, ...] from the last one read to the first; zeros after them for padding.

    Row k is for the k-th step before the last one of each sequence, padding not counted.
    """
    if not flags.reverse:
        rows = jax.tree.map(lambda a: jnp.flip(a, 0), rows)
    if flags.valid is None:
        return rows
    valid = flags.valid if flags.reverse else jnp.flip(flags.valid, 0)
    order = jnp.argsort(~valid, axis=0, stable=True)

    def leaf(a: jax.Array) -> jax.Array:
        return jnp.take_along_axis(a, order.reshape(order.shape + (1,) * (a.ndim - order.ndim)), 0)

    return silence(leaf(valid), jax.tree.map(leaf, rows))


def counted(begun: Begun, warmup: int) -> jax.Array:
    """Return which steps are neither padding nor among the first `warmup` read, bool[T, *B]."""
    steps, flags = leading(begun.model, begun.xs), begun.flags
    valid = jnp.ones(steps, bool) if flags.valid is None else flags.valid
    rank = jax.lax.cumsum(valid.astype(jnp.int32), axis=0, reverse=flags.reverse)
    return valid & (rank > warmup)


def same_lead(name: str, carries: Carry, axes: int) -> tuple[list[jax.Array], tuple[int, ...]]:
    """Return the leaves of carries, and the sizes of the first axes, or raise if these differ."""
    axes = _check.size("axes", axes, least=1)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(carries)]
    leads = {leaf.shape[:axes] for leaf in leaves}
    if len(leads) != 1 or any(leaf.ndim < axes for leaf in leaves):
        wanted = f"leaves with the same first {axes} axes"
        raise ValueError(f"{name}: expected {wanted}, got {_check.describe(carries)}")
    return leaves, leads.pop()
