"""The Jacobian of each step, on which the other diagnostics of a net's dynamics are built."""

from __future__ import annotations

import jax
from jax.flatten_util import ravel_pytree

from seqcells._model import Model, leading, steady
from seqcells._trees import closed_over
from seqcells._types import Carry, Inputs, Params
from seqcells._unroll import begin
from seqcells.diagnostics._nan import nan_slopes


def step_jacobians(model: Model, params: Params, xs: Inputs, carry: Carry = None) -> jax.Array:
    """Compute J_t = dh_t / dh_{t-1} of every step, row i for the i-th entry of h_t.

    A carry of several leaves is flattened to one vector, leaf after leaf in the order of the tree.
    For an LSTM it is h followed by c, so S = 2 H.

    Args:
        model: any cell or layer that can step and has a real carry.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the initial carry; a fresh one where None.

    Returns:
        float[T, *B, S, S]; NaN in the rows of entries of h_t that are NaN.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Identity(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> float(step_jacobians(cell, params, jnp.ones((4, 2)))[3, 1, 1])
    0.5
    """
    model, xs, carry, _ = begin(model, params, xs, carry)
    held, back = closed_over(params)

    def step(carry: Carry, x: Inputs) -> tuple[Carry, jax.Array]:
        """Step one sequence."""
        flat, unflat = ravel_pytree(carry)

        def moved(flat: jax.Array) -> tuple[jax.Array, Carry]:
            new = model.step(back(held), unflat(flat), x)[0]
            return nan_slopes(ravel_pytree(new)[0]), new

        jacobian, new = jax.jacfwd(moved, has_aux=True)(flat)
        return new, jacobian

    for _ in leading(model, xs)[1:]:
        step = jax.vmap(step)
    with steady(model, params, xs):
        return jax.lax.scan(step, carry, xs)[1]
