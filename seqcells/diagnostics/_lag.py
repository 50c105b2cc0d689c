"""The gradient of a loss by the carry of each step, its norm by lag, and its decay rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._inputs import time_back
from seqcells._model import leading
from seqcells._static import exported
from seqcells._types import Carry, Drive, Inputs, InputSize, Outputs, Params
from seqcells._unroll import run_plan
from seqcells.diagnostics._nan import nan_reaches, nan_slopes
from seqcells.diagnostics._reading import Begun, Reading, begin, by_lag
from seqcells.engines import Plan, Scan

Loss = Callable[[Outputs], jax.Array]


@exported
class RateAndHorizon(NamedTuple):
    """How a gradient decays with the lag."""

    rate: jax.Array  # [*B], factor per step: r = exp(slope of ln norm)
    horizon: jax.Array  # [*B], steps in which the norm falls by e: -1 / ln r; inf if r >= 1


def carry_gradient(
    cell: Cell,
    params: Params,
    xs: Inputs,
    loss: Loss,
    carry: Carry = None,
    **reading: Unpack[Reading],
) -> Carry:
    """Compute dL/dh_t, the total derivative of a loss by the carry after every step.

    A zero e_t is added to each h_t, and one backward pass differentiates the loss by all e_t.

    Args:
        cell: a cell with `read` (not a FunctionCell).
        params: its parameters.
        xs: float[T, *B, D].
        loss: ys [T, *B, H] -> scalar; at padding ys are zero.
        carry: the initial carry; a fresh one if None.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        The gradient, shaped like the carry with time first: float[T, *B, H] for RNN and GRU. It is
        0 at padding, and does not flow back through a reset.

    Raises:
        TypeError: if the cell is a FunctionCell.
    """
    _check.instance("cell", cell, Cell, "GRU(64)")
    begun = begin(cell, params, xs, carry, reading)
    return time_back(gradient(begun, params, loss), begun.axis)


def gradient(begun: Begun, params: Params, loss: Loss) -> Carry:
    """Return `carry_gradient`, time first."""
    cell, xs, carry, flags, axis, _ = begun
    assert isinstance(cell, Cell)  # checked by the caller
    steps, *batch = leading(cell, xs)
    plan = Plan(Scan(), _Nudged(cell, len(batch)))

    def perturbed(nudges: Carry) -> jax.Array:
        ys = run_plan(plan, params, (xs, nudges), carry, flags)[1]
        return loss(time_back(ys, axis))

    return jax.grad(perturbed)(no_nudges(carry, steps))


def gradient_by_lag(
    cell: Cell,
    params: Params,
    xs: Inputs,
    loss: Loss,
    carry: Carry = None,
    **reading: Unpack[Reading],
) -> jax.Array:
    """Compute ||dL/dh_{T-1-k}||_2 for every lag k, in one backward pass.

    Args:
        cell: a cell with `read` (not a FunctionCell).
        params: its parameters.
        xs: float[T, *B, D].
        loss: ys [T, *B, H] -> scalar; at padding ys are zero.
        carry: the initial carry; a fresh one if None.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        float[T, *B], for each sequence separately, in units of the loss per unit of carry. Row k is
        for the step k steps before the last one read. For a sequence of n steps, rows from n on are
        0, and `rate_and_horizon` leaves them out.

    Raises:
        TypeError: if the cell is a FunctionCell.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> norms = gradient_by_lag(cell, params, jnp.ones((4, 2)), lambda ys: ys[-1, 0])
    >>> [round(float(norm), 6) for norm in norms]
    [1.0, 0.5, 0.25, 0.125]
    """
    _check.instance("cell", cell, Cell, "GRU(64)")
    begun = begin(cell, params, xs, carry, reading)
    norms = norms_by_lag(gradient(begun, params, loss), leading(begun.model, begun.xs), begun.flags)
    return time_back(norms, begun.axis)


def rate_and_horizon(norms: ArrayLike, window: tuple[int, int] | None = None) -> RateAndHorizon:
    """Fit the rate r = exp(slope of ln norm) per step, and the horizon -1 / ln r in steps.

    The fit is by least squares over the lags of the window, without those whose norm has
    underflowed. A norm that has overflowed or is NaN makes the fit NaN: choose a window before it,
    or measure with `in_float64`.

    Args:
        norms: float[L, *B], by lag, as `gradient_by_lag` returns them; in any unit.
        window: the first and the last lag of the fit, in steps; all lags if None.

    Returns:
        Rate and horizon [*B]; NaN if fewer than two lags are usable, or a norm is not finite.

    Raises:
        ValueError: if the window is not within the lags.

    >>> import jax.numpy as jnp
    >>> fit = rate_and_horizon(0.5 ** jnp.arange(20.0))
    >>> round(float(fit.rate), 3), round(float(fit.horizon), 3)
    (0.5, 1.443)
    """
    norms = jnp.asarray(norms)
    _check.floating("norms", norms.dtype, "give norms by lag")
    first, last = (0, norms.shape[0] - 1) if window is None else window
    if not 0 <= first < last < norms.shape[0]:
        raise ValueError(
            f"window: expected 0 <= first < last <= {norms.shape[0] - 1}, got {(first, last)}"
        )
    norms = norms[first : last + 1]
    lags = jnp.arange(first, last + 1, dtype=norms.dtype).reshape(-1, *[1] * (norms.ndim - 1))
    usable = ~(norms <= jnp.finfo(norms.dtype).tiny)  # NaN counts
    count = jnp.sum(usable.astype(norms.dtype), axis=0)
    logs = jnp.log(jnp.where(usable, norms, 1))
    weight = usable.astype(norms.dtype) / jnp.maximum(count, 1)
    lag_mean = jnp.sum(weight * lags, axis=0)
    log_mean = jnp.sum(weight * logs, axis=0)
    spread = jnp.sum(weight * jnp.square(lags - lag_mean), axis=0)
    slope = jnp.sum(weight * (lags - lag_mean) * (logs - log_mean), axis=0)
    slope = jnp.where(count >= 2, slope / jnp.where(count >= 2, spread, 1), jnp.nan)
    horizon = jnp.where(slope >= 0, jnp.inf, -1 / jnp.where(slope >= 0, -1, slope))
    return RateAndHorizon(jnp.exp(slope), horizon)


def no_nudges(carry: Carry, steps: int) -> Carry:
    """Return zeros shaped like a carry [*B, ...] at every step, time first."""
    return jax.tree.map(lambda a: jnp.broadcast_to(jnp.zeros_like(a), (steps, *a.shape)), carry)


def norms_by_lag(gradient: Carry, steps: tuple[int, ...], flags: Flags) -> jax.Array:
    """Return the norm of a gradient over all leaves of the carry, [*steps], last step first."""
    leaves = [
        leaf.reshape(*steps, math.prod(leaf.shape[len(steps) :]))
        for leaf in jax.tree.leaves(gradient)
    ]
    return by_lag(norm(jnp.concatenate(leaves, axis=-1)), flags)


def norm(flat: jax.Array) -> jax.Array:
    """Return the norm over the last axis; no square under- or overflows, and the slope at 0 is 0.

    It is inf if an entry is, and NaN if an entry is NaN.
    """
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(flat), axis=-1, initial=0))
    scale = jnp.where((peak > 0) & (peak < jnp.inf), peak, jnp.ones_like(peak))
    squares = jnp.sum(jnp.square(flat / scale[..., None]), axis=-1)
    none = squares == 0
    return jnp.where(none, 0, scale * jnp.sqrt(jnp.where(none, jnp.ones_like(squares), squares)))


@dataclasses.dataclass(frozen=True)
class _Nudged(Cell):
    """A cell that reads (x, e) and adds e to its carry after every step; `axes` of batch."""

    cell: Cell
    axes: int

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        return self.cell.init(key, input_size)

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        return self.cell.init_carry(x[0], params)

    def project(self, params: Params, x: Inputs) -> Drive:
        return self.cell.project(params, x[0]), x[1]

    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        return self.next_carry(params, carry, drive, None)

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        drive, nudge = drive
        new = self.cell.next_carry(params, carry, drive, fresh)
        new = nan_reaches(new, (carry, drive), self.axes)
        return nan_slopes(jax.tree.map(jnp.add, new, nudge))

    def read(self, params: Params, carry: Carry, drive: Drive) -> Outputs:
        return self.cell.read(params, carry, drive[0])
