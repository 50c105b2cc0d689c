"""Stored rollouts of an actor: cut into chunks for a learner, and checked by replay."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._calls import explained
from seqcells._inputs import time_first
from seqcells._model import Model, leading
from seqcells._static import exported
from seqcells._trees import leaves_like
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells._unroll import unroll


@exported
class Chunks(NamedTuple):
    """Stored rollouts in N chunks, each with its burn-in; a pytree with N as first axis.

    A minibatch is `jax.tree.map(lambda a: a[some], chunks)`.
    """

    xs: Inputs  # [N, length, *B, ...], the model's inputs
    others: tuple[PyTree, ...]  # [N, length, *B, ...] each
    resets: jax.Array | None  # bool[N, length, *B]
    carry: Carry  # [N, *B, ...], before the first step of the burn-in
    early_xs: Inputs  # [N, burn_in, *B, ...]
    early_resets: jax.Array | None  # bool[N, burn_in, *B]

    def unroll(
        self, model: Model, params: Params, *, key: jax.Array | None = None
    ) -> tuple[Carry, Outputs]:
        """Unroll a model over the chunks, from the stored carry through the burn-in.

        The stored carry comes from older parameters; the burn-in updates it to the current ones. No
        gradient flows through it.

        Args:
            model: the cell or layer that the actor ran.
            params: the current parameters.
            key: one random key for noise, after the burn-in; None for evaluation.

        Returns:
            The carry after each chunk [N, *B, ...], and ys [N, length, *B, ...].
        """
        still, early, carry = jax.lax.stop_gradient((params, self.early_xs, self.carry))
        if jax.tree.leaves(early)[0].shape[1]:
            carry, _ = unroll(model, still, early, carry, resets=self.early_resets, time_axis=1)
        return unroll(model, params, self.xs, carry, resets=self.resets, time_axis=1, key=key)


def chunks(
    xs: Inputs,
    *others: PyTree,
    carries: Carry,
    length: int,
    burn_in: int = 0,
    resets: ArrayLike | None = None,
) -> Chunks:
    """Cut stored rollouts into chunks for an off-policy learner, as R2D2 does (Kapturowski 2019).

    The chunks follow one another: chunk i learns from the `length` steps that begin with step
    burn_in + i * length, and the `burn_in` steps before them bring its carry up to date.

    Args:
        xs: the model's inputs [T, *B, ...], an array or a tree of arrays.
        *others: other data of each step, trees of arrays [T, *B, ...]: actions, rewards, outputs.
        carries: the carry before each step [T, *B, ...], before resets: the one that the actor
            passed to `step`.
        length: steps per chunk, at least 1; T - burn_in must be a multiple of it.
        burn_in: steps before each chunk, at least 0.
        resets: bool[T, *B], as the actor passed them to `step`; None for no resets.

    Returns:
        The chunks, arrays [N, length, *B, ...] with N = (T - burn_in) / length.

    Raises:
        ValueError: if `length` does not divide T - burn_in, or arrays differ in T.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell, xs = sc.GRU(4), jnp.ones((50, 8, 3))  # 50 steps of 8 environments
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> after = sc.trajectory(cell, params, xs)
    >>> carries = jnp.concatenate([jnp.zeros((1, 8, 4)), after[:-1]])  # before each step
    >>> parts = sc.chunks(xs, jnp.ones((50, 8)), carries=carries, length=20, burn_in=10)
    >>> parts.xs.shape, parts.carry.shape
    ((2, 20, 8, 3), (2, 8, 4))
    >>> _, ys = parts.unroll(cell, params)
    >>> ys.shape
    (2, 20, 8, 4)
    """
    length = _check.size("length", length, least=1)
    burn_in = _check.size("burn_in", burn_in, least=0)
    named = {"xs": xs, "others": others, "carries": carries, "resets": resets}
    named = jax.tree.map(jnp.asarray, named)
    steps = _steps(named)
    count, rest = divmod(steps - burn_in, length)
    if rest or count < 1:
        nearest = burn_in + max(count, 1) * length
        raise ValueError(
            f"length: expected a divisor of T - burn_in = {steps} - {burn_in}, got {length}; store "
            f"{nearest} steps, or leave some out"
        )

    starts = length * np.arange(count)

    def cut(tree: PyTree, first: int, size: int) -> PyTree:
        steps = starts[:, None] + np.arange(first, first + size)
        return jax.tree.map(lambda a: a[steps], tree)

    early_xs, early_resets = cut((named["xs"], named["resets"]), 0, burn_in)
    return Chunks(
        *cut((named["xs"], named["others"], named["resets"]), burn_in, length),
        carry=jax.tree.map(lambda a: a[starts], named["carries"]),
        early_xs=early_xs,
        early_resets=early_resets,
    )


def _steps(named: dict[str, PyTree]) -> int:
    """Return T, or raise unless all arrays have the same."""
    leaves = jax.tree.leaves_with_path(named)
    steps = jax.tree.leaves(named["xs"])[0].shape[0]
    for path, leaf in leaves:
        if leaf.shape[:1] != (steps,):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"{name}: expected [T, ...] with T={steps}, as in xs, got {_check.describe(leaf)}"
            )
    return steps


class Replay(NamedTuple):
    """The result of `check_replay`; its string is a sentence."""

    ok: bool
    difference: float  # the largest difference of outputs; relative where they are above 1
    step: int | None  # the first step at which a row differs; None if none does
    row: tuple[int, ...] | None  # the index of that row in the batch axes
    shift: int | None  # 1: with each reset one step later it replays; -1: earlier; else None

    def __str__(self) -> str:
        if self.ok:
            return f"It replays: outputs differ by {self.difference:.1e} at most."
        where = (
            f"It departs first at step {self.step}, row {self.row}; outputs differ by "
            f"{self.difference:.1e} at most"
        )
        if self.shift:
            way = "later" if self.shift > 0 else "earlier"
            return (
                f"{where}; with each reset one step {way} it replays: resets[t] must be "
                "True where the step that reads xs[t] is the first of its sequence."
            )
        hint = (
            "the carry is not that before the first step, its reset is missing, or the parameters "
            "are others"
        )
        return f"{where}{f'; {hint}' if self.step == 0 else ''}."


@explained
def check_replay(
    model: Model,
    params: Params,
    xs: Inputs,
    ys: Outputs,
    carry: Carry = None,
    resets: ArrayLike | None = None,
    *,
    reset_carry: Carry = None,
    key: jax.Array | None = None,
    time_axis: int = 0,
    tol: float = 1e-4,
) -> Replay:
    """Check that unrolling a stored rollout gives the outputs that the actor saw.

    With the actor's parameters, a learner that unrolls a stored rollout must get the actor's
    outputs; otherwise its gradients belong to another policy. The most common mistake is a reset
    stored at the wrong step, so if outputs differ, resets one step earlier and later are tried as
    well.

    Args:
        model: the cell or layer that the actor ran.
        params: the actor's parameters.
        xs: the stored inputs [T, *B, ...].
        ys: the stored outputs of the model [T, *B, ...].
        carry: the carry before the first step, [*B, ...]; the fresh one if None.
        resets: bool[T, *B], as the learner passes them to `unroll`.
        reset_carry: the carry after a reset; `model.init_carry` if None.
        key: the random key of the actor's noise.
        time_axis: the axis of time in xs, ys and resets.
        tol: the largest difference of outputs that counts as rounding, relative where outputs are
            above 1; raise it for bfloat16.

    Returns:
        A report to print; `ok` is True if the outputs agree.

    Raises:
        TypeError, ValueError: as `unroll`; also if ys do not have the shapes of the model's
            outputs.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell, xs = sc.GRU(4), jax.random.normal(jax.random.key(1), (9, 2, 3))
    >>> params = cell.init(jax.random.key(0), input_size=3)
    >>> first = jnp.zeros((9, 2), bool).at[4, 1].set(True)
    >>> _, ys = sc.unroll(cell, params, xs, resets=first)
    >>> print(sc.debug.check_replay(cell, params, xs, ys, resets=first))
    It replays: outputs differ by 0.0e+00 at most.
    >>> sc.debug.check_replay(cell, params, xs, ys, resets=jnp.roll(first, -1, axis=0)).shift
    1
    """
    _check.number("tol", tol, "a number above 0", lambda tol: tol > 0)
    options = {"reset_carry": reset_carry, "time_axis": time_axis, "key": key}
    first, axis = time_first(model, xs, time_axis)
    steps = leading(model, first)

    def errors(resets: ArrayLike | None) -> np.ndarray:
        """Return the largest difference of each step and row, [T, *B]."""
        _, replayed = unroll(model, params, xs, carry, resets=resets, **options)
        return _differences(ys, replayed, steps, axis)

    found = errors(resets)
    bad = ~(found <= tol)  # NaN is bad
    if not bad.any():
        return Replay(True, float(found.max(initial=0)), None, None, None)
    step, *row = (int(i) for i in np.argwhere(bad)[0])
    shift = None
    if resets is not None:
        flags = np.moveaxis(np.asarray(resets, bool), axis, 0)
        shift = next((by for by in (1, -1) if _replays(errors, flags, by, axis, tol)), None)
    return Replay(False, float(found.max()), step, tuple(row), shift)


def _replays(
    errors: Callable[[np.ndarray], np.ndarray], flags: np.ndarray, by: int, axis: int, tol: float
) -> bool:
    """Whether every row replays with its resets moved by a step, for either value at the edge."""
    fits = np.zeros(flags.shape[1:], bool)
    for edge in (False, True):
        moved = np.roll(flags, by, axis=0)
        moved[0 if by > 0 else -1] = edge
        fits |= (errors(np.moveaxis(moved, 0, axis)) <= tol).all(axis=0)
    return bool(fits.all())


def _differences(ys: Outputs, replayed: Outputs, steps: tuple[int, ...], axis: int) -> np.ndarray:
    """Return the largest difference of each step and row, [T, *B]; relative above 1."""
    stored = leaves_like(ys, replayed)
    if stored is None:
        raise ValueError(
            f"ys: expected {_check.describe(replayed)}, the shape of the model's outputs, got "
            f"{_check.describe(ys)}"
        )

    def of(saw: jax.Array, again: jax.Array) -> np.ndarray:
        a, b = (np.moveaxis(np.asarray(one, np.float64), axis, 0) for one in (saw, again))
        error = np.abs(a - b) / np.maximum(1, np.abs(a))
        return error.reshape(*steps, -1).max(axis=-1, initial=0)

    return functools.reduce(np.maximum, map(of, stored, jax.tree.leaves(replayed)))
