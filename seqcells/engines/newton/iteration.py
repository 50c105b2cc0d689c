"""Newton's method for all carries of a sequence at once.

The carries solve the equations F_t(h) = h_t - f_t(h_{t-1}) = 0, with h_{-1} given. An iteration
adds to an approximation h the solution D of the linearized equations, L D = -F with
(L D)_t = D_t - J_t D_{t-1} and J_t the Jacobian of f_t at h_{t-1}::

    D_t = J_t D_{t-1} - F_t           an affine recurrence, which runs in parallel (`affine`)
    h_t <- h_t + D_t

If h_0 ... h_{k-1} are right, so is the new h_k: D is zero before it, and
D_k = -F_k = f_k(h_{k-1}) - h_k. So k iterations make at least the first k steps right, whatever the
others are, and T iterations all. Near the solution the error after an iteration is proportional to
the square of the error before it. A recurrence that is linear in the carry needs one iteration.

Another matrix in the place of J_t, such as its diagonal or a product in low precision, changes the
number of iterations, but not the solution: F is always computed from f itself in full precision.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._static import Static
from seqcells._trees import select
from seqcells.engines._platform import varying
from seqcells.engines.newton import affine, jacobians
from seqcells.engines.newton.recurrence import Given, Recurrence

ROUNDED = 16  # eps: a residual that is rounding error, relative to the largest carry or 1


class Iterate(NamedTuple):
    """An approximation of the carries, after some iterations."""

    carries: jax.Array  # float[T, *B, U, K]
    defect: jax.Array  # -F = f_t(h_{t-1}) - h_t
    residual: jax.Array  # float[*B], the largest |F|; infinite where it is NaN
    iterations: jax.Array  # int32[*B]


@dataclasses.dataclass(frozen=True)
class Solver(Static):
    """Newton's method with its settings.

    Attributes:
        recurrence: the steps.
        scan: how affine recurrences are run, a name in `affine.SCANS`.
        eps: the relative rounding error of a step.
        tol: the largest residual of a solution; None: `ROUNDED` times the rounding error.
        max_iters: the largest number of iterations.
        damping: from 0 to 1; J_t is multiplied by 1 - damping.
        scan_dtype: the dtype in which D is computed.
    """

    recurrence: Recurrence
    scan: str
    eps: float
    tol: float | None
    max_iters: int
    damping: float
    scan_dtype: jnp.dtype

    def iterate(self, given: Given, guess: jax.Array) -> Iterate:
        """Improve a guess until it solves the equations, or no further iteration is allowed.

        A sequence that is done stays as it is while others of the batch go on.
        """
        first = self.at(given, guess, jnp.zeros_like(guess[0, ..., 0, 0], dtype=jnp.int32))
        first = varying(first, (given, guess))

        def going(now: Iterate) -> jax.Array:
            open_ = (now.residual > self.limit(now.carries)) & jnp.isfinite(now.residual)
            return open_ & (now.iterations < self.max_iters)

        def body(now: Iterate) -> Iterate:
            new = self.at(given, self._better(given, now), now.iterations + 1)
            rows = going(now)
            steps = jnp.broadcast_to(rows, now.carries.shape[:-2])
            return Iterate(*select(steps, new[:2], now[:2]), *select(rows, new[2:], now[2:]))

        return jax.lax.while_loop(lambda now: jnp.any(going(now)), body, first)

    def at(self, given: Given, carries: jax.Array, iterations: jax.Array) -> Iterate:
        """Compute the residual of carries, after setting those at padding to the ones held."""
        carries = self.recurrence.held(given, carries)
        before = self.recurrence.before(given, carries)
        defect = self.recurrence.all(given, before) - carries
        return Iterate(carries, defect, largest(defect), iterations)

    def limit(self, carries: jax.Array) -> jax.Array:
        """Return the largest residual of a solution, float[*B]."""
        if self.tol is not None:
            return jnp.full_like(carries[0, ..., 0, 0], self.tol)
        return ROUNDED * self.rounding(carries)

    def rounding(self, carries: jax.Array) -> jax.Array:
        """Return the rounding error of a step with carries of this size, float[*B]."""
        return self.eps * jnp.maximum(largest(carries), 1)

    def _better(self, given: Given, now: Iterate) -> jax.Array:
        """Add the solution of the linearized equations, or take f_t(h_{t-1}) where it is too large.

        Along a chaotic sequence solutions grow without a bound, and a step from a number beyond the
        square root of the largest one may overflow.
        """
        before = self.recurrence.before(given, now.carries)
        a = jacobians.blocks(self.recurrence, given, before)
        if self.damping:
            a = a * (1 - self.damping)
        a, b = (c.astype(self.scan_dtype) for c in (a, now.defect[..., None]))
        new = now.carries + affine.solve(self.scan, a, b)[..., 0].astype(now.carries.dtype)
        most = float(jnp.finfo(new.dtype).max) ** 0.5
        return jnp.where(jnp.abs(new) < most, new, now.carries + now.defect)


def largest(a: jax.Array) -> jax.Array:
    """Return the largest absolute value of each sequence of a [T, *B, U, K]; NaN is infinite.

    On a CPU, XLA's maximum of 4096 numbers or more skips NaN (openxla/xla#21461).
    """
    return jnp.max(jnp.where(jnp.isnan(a), jnp.inf, jnp.abs(a)), axis=(0, -2, -1))
