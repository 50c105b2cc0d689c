"""Solutions of the linearized recurrence for the certificate: full precision, the true J_t.

With exact blocks of J_t the recurrence is run as it is. With the diagonal D_t of J_t, which is all
that is kept, it is solved by iteration: the rest of an approximation v is R_t = b_t + J_t v_{t-1} -
v_t, by one Jacobian-vector product, and v is improved by w_t = D_t w_{t-1} + R_t.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from seqcells._trees import select
from seqcells.engines._platform import varying
from seqcells.engines.newton import affine, jacobians
from seqcells.engines.newton.iteration import Solver, largest
from seqcells.engines.newton.recurrence import Given

WITHIN = 1e-3  # the accuracy of a solution by iteration
Right = tuple[jax.Array, jax.Array]  # b_t [T, *B, U, K, R], and what precedes the first step


def solve(
    solver: Solver, given: Given, carries: jax.Array, signed: Right, positive: Right
) -> tuple[jax.Array, jax.Array]:
    """Solve v_t = J_t v_{t-1} + b_t, and a recurrence that bounds its solutions.

    Args:
        solver: the method.
        given: what determines the carries.
        carries: where J_t is taken, float[T, *B, U, K].
        signed: b_t, and v_{-1}.
        positive: the same for g_t = |J_t| g_{t-1} + b_t; for a diagonal layout g is the largest
            entry alone, and |J_t| the largest row sum.

    Returns:
        v [T, *B, U, K, R] and g; v is NaN for a sequence whose iteration has not converged.
    """
    before = solver.recurrence.before(given, carries)
    a = jacobians.blocks(solver.recurrence, given, before)
    if solver.recurrence.layout.exact:
        v = affine.solve(solver.scan, a, *signed)
        return v, affine.solve(solver.scan, jnp.abs(a), *positive)
    sums = jacobians.row_sums(solver.recurrence, given, before)
    one, start = positive
    bound = affine.solve(solver.scan, sums, one[..., :1, :1, :], start)
    return _by_iteration(solver, given, before, a, signed), bound


def _by_iteration(
    solver: Solver, given: Given, before: jax.Array, a: jax.Array, right: Right
) -> jax.Array:
    """Solve v_t = J_t v_{t-1} + b_t with the diagonal a of J_t."""
    b, start = right

    @functools.partial(jax.vmap, in_axes=-1, out_axes=-1)
    def push(v: jax.Array) -> jax.Array:
        """Return J_t v_{t-1}, from v before each step."""
        return jax.jvp(lambda h: solver.recurrence.all(given, h), (before,), (v,))[1]

    def rest(v: jax.Array) -> jax.Array:
        return b - v + push(jnp.concatenate([start[None], v[:-1]]))

    def size(c: jax.Array) -> jax.Array:  # [*B, R]
        return largest(jnp.moveaxis(c, -1, -3))

    def open_(left: jax.Array) -> jax.Array:  # NaN is not open; [*B]
        most = size(left)
        return jnp.any((most > WITHIN * size(b)) & jnp.isfinite(most), axis=-1)

    def going(state: tuple) -> jax.Array:
        _, left, count = state
        return open_(left) & (count < solver.max_iters)

    def body(state: tuple) -> tuple:
        v, left, count = state
        new = v + affine.solve(solver.scan, a, left)
        rows = going(state)
        steps = jnp.broadcast_to(rows, b.shape[:-3])
        return *select(steps, (new, rest(new)), (v, left)), count + rows.astype(jnp.int32)

    zero = jnp.zeros_like(b)
    first = varying((zero, rest(zero), jnp.zeros_like(b[0, ..., 0, 0, 0], jnp.int32)), given)
    v, left, _ = jax.lax.while_loop(lambda state: jnp.any(going(state)), body, first)
    done = jnp.all(size(left) <= WITHIN * size(b), axis=-1)
    return select(jnp.broadcast_to(done, b.shape[:-3]), v, jnp.full_like(v, jnp.nan))
