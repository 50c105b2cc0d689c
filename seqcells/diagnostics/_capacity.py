"""Memory capacity: how much of its past input a reservoir's state holds, linearly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells.diagnostics._nan import finite


def memory_capacity(states: ArrayLike, inputs: ArrayLike, lags: int) -> jax.Array:
    """Measure how well a linear readout recalls the input of k steps before (Jaeger 2001).

    The capacity at lag k is the squared correlation of u_{t-k} with its best linear estimate from
    h_t and a constant. For white noise as input, the sum over all lags is at most S, the size of
    the state. Estimated from N samples, each capacity is too large by about S / N.

    Args:
        states: float[T, *B, S], the carries of a run, after their input.
        inputs: float[T, *B], one number a step.
        lags: the number of lags, 0 to lags - 1; the first lags - 1 steps of a run are not used.

    Returns:
        float[lags], each from 0 to 1.

    Raises:
        ValueError: if shapes do not fit, or there are not more samples than S + 1.
    """
    states, inputs = jnp.asarray(states), jnp.asarray(inputs)
    if states.ndim < 2 or states.shape[:-1] != inputs.shape:
        wanted = "float[T, *B, S] and float[T, *B]"
        raise ValueError(f"states, inputs: expected {wanted}, got {states.shape}, {inputs.shape}")
    steps, size = len(states), states.shape[-1]
    lags = _check.size("lags", lags, least=1)
    rows = states[lags - 1 :].reshape(-1, size)
    if len(rows) <= size + 1:
        raise ValueError(
            f"states: expected more than {size + 1} samples after {lags - 1} steps, got {len(rows)}"
        )
    past = jnp.stack([inputs[lags - 1 - k : steps - k].reshape(-1) for k in range(lags)], axis=-1)
    rows, past = (a - jnp.mean(a, axis=0, keepdims=True) for a in (rows, past))
    weights, *_ = jnp.linalg.lstsq(finite(rows), finite(past))
    estimate = jnp.matmul(rows, weights, precision="highest")
    return jnp.sum(estimate * past, axis=0) ** 2 / (
        jnp.sum(estimate**2, axis=0) * jnp.sum(past**2, axis=0)
    )


def linear_memory_capacity(w_hh: ArrayLike, w_ih: ArrayLike, lags: int) -> jax.Array:
    """Compute the memory capacity of h_t = h_{t-1} W + u_t v for white noise u, in closed form.

    With C the covariance of h, the capacity at lag k is v_k C^-1 v_k for v_k = v W^k
    (White et al. 2004). The sum over all lags is S, unless v reaches less than all S directions.

    Args:
        w_hh: float[S, S], W, with a spectral radius below 1.
        w_ih: float[S], v, or [1, S].
        lags: the number of lags, 0 to lags - 1.

    Returns:
        float[lags], each from 0 to 1; NaN where the spectral radius is above 1.

    Raises:
        ValueError: if the shapes do not fit.

    >>> import jax.numpy as jnp
    >>> shift = jnp.diag(jnp.full(3, 0.5), 1)  # a delay line of 4 units
    >>> [round(float(c), 6) for c in linear_memory_capacity(shift, jnp.eye(4)[0], 6)]
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    """
    w, v = jnp.asarray(w_hh), jnp.asarray(w_ih)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or v.size != len(w):
        raise ValueError(f"w_hh, w_ih: expected [S, S] and [S], got {w.shape} and {v.shape}")
    lags, v = _check.size("lags", lags, least=1), v.reshape(-1)

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision="highest")

    def double(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Add as many terms of C = sum of (W^k)^T v v^T W^k as there are."""
        covariance, power = state
        return covariance + product(power.T, product(covariance, power)), product(power, power)

    covariance, _ = jax.lax.fori_loop(0, DOUBLINGS, double, (jnp.outer(v, v), w))
    _, rows = jax.lax.scan(lambda row, _: (product(row, w), row), v, length=lags)
    values, vectors = jnp.linalg.eigh(finite(covariance))
    least = len(w) * jnp.finfo(values.dtype).eps * values[-1]
    inverse = jnp.where(values > least, 1 / jnp.where(values > least, values, 1.0), 0.0)
    return jnp.sum(product(rows, vectors) ** 2 * inverse, axis=-1)


DOUBLINGS = 40  # 2^40 terms
