"""The Jacobian of each step, which other diagnostics build on."""

from __future__ import annotations

from typing import Unpack

import jax
from jax.flatten_util import ravel_pytree

from seqcells._flags import Guarded, guard
from seqcells._inputs import time_back
from seqcells._model import Model, leading, steady
from seqcells._trees import closed_over
from seqcells._types import Carry, Inputs, Params
from seqcells.diagnostics._nan import nan_slopes
from seqcells.diagnostics._reading import Begun, Reading, begin


def step_jacobians(
    model: Model, params: Params, xs: Inputs, carry: Carry = None, **reading: Unpack[Reading]
) -> jax.Array:
    """Compute J_t = dh_t / dh_{t-1} of every step; row i belongs to the i-th entry of h_t.

    A carry with several leaves is flattened to one vector, leaf after leaf in tree order.
    For an LSTM it is h followed by c, so S = 2 H.

    Args:
        model: any cell or layer that can step and has a real carry.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the initial carry; a fresh one if None.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        float[T, *B, S, S]; NaN in the rows of entries of h_t that are NaN. J_t is I at padding,
        where h_t = h_{t-1}, and 0 at a reset. In reverse it is dh_t / dh_{t+1}.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Identity(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> float(step_jacobians(cell, params, jnp.ones((4, 2)))[3, 1, 1])
    0.5
    """
    begun = begin(model, params, xs, carry, reading)
    return time_back(jacobians(begun, params), begun.axis)


def jacobians(begun: Begun, params: Params) -> jax.Array:
    """Return `step_jacobians`, time first."""
    model, xs, carry, flags, *_ = begun
    held, back = closed_over(params)

    def step(carry: Carry, inputs: Guarded, fresh: Carry) -> tuple[Carry, jax.Array]:
        """Step one sequence."""
        flat, unflat = ravel_pytree(carry)
        guarded = guard(model, back(held), fresh)

        def moved(flat: jax.Array) -> tuple[jax.Array, Carry]:
            new = guarded(unflat(flat), inputs)[0]
            return nan_slopes(ravel_pytree(new)[0]), new

        jacobian, new = jax.jacfwd(moved, has_aux=True)(flat)
        return new, jacobian

    for _ in leading(model, xs)[1:]:
        step = jax.vmap(step)
    fresh, inputs = flags.fresh, (xs, flags.valid, flags.restart)
    with steady(model, params, xs):
        return jax.lax.scan(
            lambda carry, inputs: step(carry, inputs, fresh), carry, inputs, reverse=flags.reverse
        )[1]
