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
from seqcells._trees import closed_over, over, select, silence
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

    def over(self, steps: tuple[int, ...]) -> Flags:
        """Return the flags for a part that reads more batch axes, such as each pixel of images."""
        valid, restart = (over(flag, steps) for flag in (self.valid, self.restart))
        return dataclasses.replace(self, valid=valid, restart=restart)

    def backward(self) -> Flags:
        """Return the flags for reading from the end: each start now ends the preceding sequence."""
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
    reverse = _check.flag("reverse", reverse)
    valid = _boolean("mask", mask, steps, time_axis)
    if lengths is not None:
        times = jnp.arange(steps[0]).reshape(-1, *[1] * (len(steps) - 1))
        inside = times < _lengths(lengths, steps, time_axis).astype(times.dtype)[None]
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

    At padding the step still runs, on zeros, so its derivative at zero must be finite.

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


def begins_fresh(flags: Flags) -> jax.Array | None:
    """Return bool[*B], True where the first valid step restarts; None if padding cannot precede it.

    The initial carry of such a sequence is never read. Padded steps before it must not see that
    carry either: if it were NaN, their derivative would be NaN.
    """
    if flags.valid is None or flags.restart is None or flags.reverse or flags.valid.shape[0] == 0:
        return None  # read from the end, a start comes after the step that it restarts
    first = jnp.argmax(flags.valid, axis=0)
    return jnp.take_along_axis(flags.restart, first[None], axis=0)[0]


def _boolean(
    name: str, value: ArrayLike | None, steps: tuple[int, ...], time_axis: int
) -> jax.Array | None:
    if value is None:
        return None
    expected = steps[1 : time_axis + 1] + steps[:1] + steps[time_axis + 1 :]
    value, hint = _check.array(name, value, f"bool{list(expected)}"), ""
    if len(expected) > 1 and value.shape == (*expected[1::-1], *expected[2:]):
        hint = (
            f"; one of xs and {name} looks batch-first: make both batch-first, and pass time_axis=1"
        )
    flags = _check.boolean(name, value, expected, "the axes of xs before the feature axes", hint)
    return jnp.moveaxis(flags, time_axis, 0)


def _lengths(lengths: ArrayLike, steps: tuple[int, ...], time_axis: int) -> jax.Array:
    expected = f"int{list(steps[1:])}"
    n = _check.array("lengths", lengths, expected)
    if not jnp.issubdtype(n.dtype, jnp.integer) and n.size:  # an empty list has no dtype
        raise TypeError(f"lengths: expected {expected}, got dtype {n.dtype}")
    if n.shape != steps[1:]:
        raise ValueError(
            f"lengths: expected {expected}, one for every sequence of xs, got shape {n.shape}"
            f"{_exchanged(n.shape, steps, time_axis)}"
        )
    _check.within("lengths", lengths, 0, steps[0], f"values from 0 to T={steps[0]}")
    return n


def _exchanged(batch: tuple[int, ...], steps: tuple[int, ...], time_axis: int) -> str:
    """Return a hint if the first of the axes [T, *B] of xs is the batch."""
    if batch == steps:
        return "; xs looks like one step of a batch: call step, or write xs[None]"
    if len(steps) < 2 or batch != (steps[0], *steps[2:]):
        return ""
    ways = {0: "batch-first: pass time_axis=1", 1: "time-first: leave out time_axis"}
    return f"; xs looks {ways[time_axis]}" if time_axis in ways else ""


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
