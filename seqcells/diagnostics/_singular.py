"""The singular values of dh_T/dh_{T-k} by lag k, and a bound on them."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._inputs import time_back
from seqcells._linear import wide
from seqcells._model import Model
from seqcells._static import exported
from seqcells._types import Carry, Inputs, Params
from seqcells.cells import RNN, IndRNN, IndRNNParams, RNNParams
from seqcells.diagnostics._jacobian import jacobians
from seqcells.diagnostics._nan import finite
from seqcells.diagnostics._reading import Reading, begin, by_lag
from seqcells.engines._platform import varying

STEEPEST = {"tanh": 1.0, "relu": 1.0, "identity": 1.0, "sigmoid": 0.25}  # max |act'|


@exported
class JacobianByLag(NamedTuple):
    """The size of dh_T/dh_{T-k} by lag, in logarithms, which neither underflow nor overflow."""

    log_singular_values: jax.Array  # [T+1, *B, S], nats, the largest first; -inf for 0
    log_norm: jax.Array  # [T+1, *B], nats; of the Frobenius norm


def jacobian_by_lag(
    model: Model, params: Params, xs: Inputs, carry: Carry = None, **reading: Unpack[Reading]
) -> JacobianByLag:
    """Compute all singular values of dh_T/dh_{T-k} = J_T J_{T-1} ... J_{T-k+1} at every lag k.

    The product is rescaled at every step, so only rounding limits its accuracy: singular values
    below eps times the largest of the same lag are noise. For these, use `lyapunov_exponents`,
    which computes their slope accurately.

    Args:
        model: any cell or layer that can step and has a real carry; several leaves are treated as
            one vector of S entries.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the initial carry, h_0; a fresh one if None.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        Logarithms of the singular values [T+1, *B, S] and of the Frobenius norm [T+1, *B], in nats.
        Row k is for a lag of k steps: row 0 for the identity, row T for dh_T/dh_0. Rows are NaN
        from the first lag that reaches a step whose carry is NaN. For a sequence of n steps, rows
        from n + 1 on are -inf, as are lags that reach over a reset.

    Raises:
        TypeError: as `unroll`.
        ValueError: as `unroll`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> logs = jacobian_by_lag(cell, params, jnp.ones((4, 2))).log_singular_values
    >>> [round(float(log[0]), 4) for log in jnp.exp(logs)]
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """
    begun = begin(model, params, xs, carry, reading)
    steps = by_lag(jacobians(begun, params), begun.flags)
    one = jnp.broadcast_to(jnp.eye(steps.shape[-1], dtype=steps.dtype), steps.shape[1:])
    start = varying((one, jnp.zeros(steps.shape[1:-2], steps.dtype)), steps)

    def back(product: tuple, jacobian: jax.Array) -> tuple[tuple, tuple]:
        """Extend the lag by one: multiply from the right, and divide by the scale."""
        unit, log_scale = product
        unit = unit @ jacobian
        peak = jnp.max(jnp.abs(unit), axis=(-2, -1))
        peak = jnp.where(peak == 0, jnp.ones_like(peak), peak)  # NaN stays
        product = unit / peak[..., None, None], log_scale + jnp.log(peak)
        return product, product

    _, further = jax.lax.scan(back, start, steps)
    units, log_scales = (
        jnp.concatenate([first[None], rest]) for first, rest in zip(start, further, strict=True)
    )
    values = jnp.linalg.svd(units, compute_uv=False)
    norms = jnp.sqrt(jnp.sum(jnp.square(units), axis=(-2, -1)))
    logs = JacobianByLag(log_scales[..., None] + jnp.log(values), log_scales + jnp.log(norms))
    return time_back(logs, begun.axis)


def pascanu_bound(cell: RNN | IndRNN, params: Params, lag: ArrayLike = 1) -> jax.Array:
    """Compute the bound `||dh_t/dh_{t-k}||_2 <= (||W||_2 max |act'|)^k` (Pascanu et al. 2013).

    W is the recurrent matrix, or diag(u) for IndRNN; `max |act'|` is 1 for tanh, ReLU and the
    identity, and 1/4 for the logistic function. Below 1, gradients certainly vanish; above 1, the
    bound implies nothing.

    Args:
        cell: an `RNN` or an `IndRNN`.
        params: its parameters.
        lag: k, number[...] >= 0, in steps.

    Returns:
        The bound, float[...], shaped like `lag`, dimensionless. If it would underflow or overflow,
        compute its logarithm as `lag * log(pascanu_bound(cell, params))`.

    Raises:
        TypeError: if the cell is not an `RNN` or `IndRNN`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> bound = pascanu_bound(cell, cell.init(jax.random.key(0), 2), jnp.arange(3))
    >>> [round(float(b), 4) for b in bound]
    [1.0, 0.5, 0.25]
    """
    _check.instance("cell", cell, (RNN, IndRNN), "RNN(64)")
    _check.instance("params", params, (RNNParams, IndRNNParams), "cell.init(key, input_size)")
    w = jnp.asarray(params.w_hh)
    w = w.astype(wide(w.dtype))
    norm = jnp.max(jnp.abs(w)) if w.ndim == 1 else jnp.linalg.norm(finite(w), 2)
    factor = norm * STEEPEST[cell.activation]
    return factor ** jnp.asarray(lag, factor.dtype)
