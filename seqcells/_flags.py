"""Lengths, masks and resets, combined once for every engine.

Padding is inert: an invalid step keeps the carry, its output is zero, and its input is replaced by
zeros, so that neither values nor gradients depend on the values in the padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._model import Model
from seqcells._trees import closed_over, select, silence
from seqcells._types import Carry, Inputs, Outputs, Params

Guarded = tuple[Inputs, jax.Array | None, jax.Array | None]  # x, valid and restart of one step


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["valid", "restart", "fresh"],
    meta_fields=["reverse"],
)
@dataclasses.dataclass(frozen=True)
class Flags:
    """Where sequences begin and end, ready for an engine; time first.

    Attributes:
        valid: bool[T, *B], False = padding; None if every step is valid.
        restart: bool[T, *B], True = the carry is replaced by the fresh one before this step, in the
            order of reading; None if there is no reset.
        fresh: the carry after a restart, [*B, ...]; None while an engine is selected.
        reverse: whether time is read from the end.
    """

    valid: jax.Array | None = None
    restart: jax.Array | None = None
    fresh: Carry = None
    reverse: bool = False

    def backward(self) -> Flags:
        """Return the flags for reading from the end: each old start ends the sequence before it."""
        restart = self.restart
        if restart is not None:
            restart = _next_valid(restart, self.valid)
            restart = restart if self.valid is None else restart & self.valid
        return dataclasses.replace(self, restart=restart, reverse=True)


def make(
    steps: tuple[int, ...],
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    time_axis: int = 0,
    reverse: bool = False,
) -> Flags:
    """Check the flags against the sizes [T, *B] of the inputs, time first, and combine them."""
    _check.flag("reverse", reverse)
    valid = _boolean("mask", mask, steps, time_axis)
    if lengths is not None:
        times = jnp.arange(steps[0]).reshape(-1, *[1] * (len(steps) - 1))
        inside = times < _lengths(lengths, steps).astype(times.dtype)
        valid = inside if valid is None else valid & inside
    restart = _boolean("resets", resets, steps, time_axis)
    if restart is not None and valid is not None:
        restart = restart & valid
    flags = Flags(valid, restart)
    return flags.backward() if reverse else flags


def guard(
    model: Model, params: Params, fresh: Carry
) -> Callable[[Carry, Guarded], tuple[Carry, Outputs]]:
    """Return the model's step under flags, a body for a scan.

    At padding the step still runs, on zeros: its derivative there must be a number.

    Args:
        model: the cell or layer, resolved.
        params: its parameters.
        fresh: the carry with which a sequence starts.

    Returns:
        `(carry, (x, valid, restart)) -> (carry, y)`, where the two flags are bool[*B] or None.
    """
    held, back = closed_over((params, fresh))

    def step(carry: Carry, inputs: Guarded) -> tuple[Carry, Outputs]:
        params, fresh = back(held)
        x, valid, restart = inputs
        if restart is not None:
            carry = select(restart, fresh, carry)
        if valid is None:
            return model.advance(params, carry, x, restart)
        new, y = model.advance(params, carry, silence(valid, x), restart)
        return select(valid, new, carry), silence(valid, y)

    return step


def _boolean(
    name: str, value: ArrayLike | None, steps: tuple[int, ...], time_axis: int
) -> jax.Array | None:
    if value is None:
        return None
    expected = steps[1 : time_axis + 1] + steps[:1] + steps[time_axis + 1 :]
    flags = _check.boolean(name, value, expected, "the axes of xs before the inputs' own")
    return jnp.moveaxis(flags, time_axis, 0)


def _lengths(lengths: ArrayLike, steps: tuple[int, ...]) -> jax.Array:
    n = jnp.asarray(lengths)
    if not jnp.issubdtype(n.dtype, jnp.integer):
        raise TypeError(f"lengths: expected int{list(steps[1:])}, got dtype {n.dtype}")
    if n.shape != steps[1:]:
        raise ValueError(
            f"lengths: expected int{list(steps[1:])}, one for every sequence of xs, "
            f"got shape {n.shape}"
        )
    _check.within("lengths", lengths, 0, steps[0], f"values from 0 to T={steps[0]}")
    return n


def _next_valid(restart: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Shift restarts for reading from the end.

    A sequence that starts at t ends the one before it, so the fresh carry is due at the last valid
    step before t: at each step, look whether the next valid one starts a sequence.
    """
    length = restart.shape[0]
    if length == 0:
        return restart
    times = jnp.arange(length).reshape(-1, *[1] * (restart.ndim - 1))
    here = jnp.broadcast_to(times, restart.shape)
    if valid is not None:
        here = jnp.where(valid, here, length)
    upcoming = jax.lax.cummin(here, axis=0, reverse=True)  # first valid step at t or later
    after = jnp.concatenate([upcoming[1:], jnp.full_like(upcoming[:1], length)])
    starts = jnp.take_along_axis(restart, jnp.minimum(after, length - 1), axis=0)
    return starts & (after < length)
