"""Lyapunov exponents: how fast nearby trajectories separate, direction by direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._flags import Guarded, guard
from seqcells._model import Model, leading, steady
from seqcells._trees import closed_over
from seqcells._types import Carry, Inputs, Params
from seqcells.diagnostics._lag import norm
from seqcells.diagnostics._nan import nan_slopes
from seqcells.diagnostics._reading import OneWay, begin, counted
from seqcells.engines._platform import varying


def lyapunov_exponents(
    model: Model,
    params: Params,
    xs: Inputs,
    k: int | None = None,
    *,
    warmup: int = 0,
    carry: Carry = None,
    **reading: Unpack[OneWay],
) -> jax.Array:
    """Compute the leading k Lyapunov exponents along a trajectory (Benettin et al. 1980).

    With J_t = dh_t / dh_{t-1}, which `step_jacobians` computes, and orthonormal columns Q::

        Q_t R_t = J_t Q_{t-1}        lambda_i = mean of ln |R_t[i, i]| over the steps

    Going back in time, gradients scale as exp(lambda_1 t), so exponents near 0 are best for
    training. The sum of all exponents is the mean of `ln |det J_t|`. The exponents are
    differentiable, also by parameters.

    For a system without inputs, pass inputs of size 0, `jnp.zeros((T, *B, 0))`, from which a
    `FunctionCell` reads its batch axes.

    J_t Q is computed as k tangents, without J_t itself. Q starts as k fixed directions in general
    position, and turns towards the fastest directions during the warm-up. Without a warm-up, the
    exponents of a short sequence may not be sorted yet.

    Args:
        model: any cell or layer that can step and has a real carry.
        params: its parameters.
        xs: float[T, *B, D].
        k: the number of exponents, from 1 to S, the size of the carry; all if None.
        warmup: steps at the start that are run but not counted, 0 to T - 1.
        carry: the initial carry; a fresh one if None.
        **reading: `lengths`, `mask`, `reverse` and `time_axis`, as in `unroll`.

    Returns:
        float[*B, k], nats per step; -inf for directions that a J_t loses, such as that of a dead
        ReLU unit, with a derivative of 0; NaN if the carry becomes NaN.

    Raises:
        TypeError: if k or warmup is not an int.
        ValueError: if k is outside of 1 to S, or the warm-up leaves no step.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> exponents = lyapunov_exponents(cell, params, jnp.ones((20, 2)), k=2)
    >>> [round(float(exponent), 4) for exponent in exponents]  # ln 0.5
    [-0.6931, -0.6931]
    """
    lengths, counts = growth(model, params, xs, k, warmup, carry, reading)
    lost = lengths == 0
    logs = jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, jnp.ones_like(lengths), lengths)))
    return mean(logs, counts)


def mean(logs: jax.Array, counts: jax.Array) -> jax.Array:
    """Return the mean over the counted steps, [*B, k]; NaN if there are none."""
    return jnp.mean(logs, axis=0, where=counts[..., None])


def growth(
    model: Model,
    params: Params,
    xs: Inputs,
    k: int | None,
    warmup: int,
    carry: Carry,
    reading: Mapping[str, object],
) -> tuple[jax.Array, jax.Array]:
    """Return |R_t[i, i]| of every step, float[T, *B, k], and the counted steps, bool[T, *B]."""
    begun = begin(model, params, xs, carry, reading, OneWay)
    model, xs, carry, flags, *_ = begun
    length, *batch = leading(model, xs)
    if _check.size("warmup", warmup, least=0) >= length:
        raise ValueError(f"warmup: expected fewer than the {length} steps of xs, got {warmup}")
    leaves = jax.tree.leaves(carry)
    size = sum(math.prod(leaf.shape[len(batch) :]) for leaf in leaves)
    columns = varying(_columns(size, k, jnp.result_type(*leaves)), carry)
    held, back = closed_over(params)

    def step(
        state: tuple[Carry, jax.Array], inputs: Guarded
    ) -> tuple[tuple[Carry, jax.Array], jax.Array]:
        """Step one sequence."""
        carry, q = state
        flat, unflat = ravel_pytree(carry)
        guarded = guard(model, back(held), None)

        def moved(flat: jax.Array) -> jax.Array:
            return nan_slopes(ravel_pytree(guarded(unflat(flat), inputs)[0])[0])

        new, tangent = jax.linearize(moved, flat)
        q, lengths = orthonormal(jax.vmap(tangent, 1, 1)(q))
        return (unflat(new), q), lengths

    for rows in reversed(batch):
        step = jax.vmap(step)
        columns = jnp.broadcast_to(columns, (rows, *columns.shape))
    # The residuals of the columns are S * k^2 numbers per step, so they are recomputed.
    scan, inputs = jax.checkpoint(step), (xs, flags.valid, None)
    with steady(model, params, xs):
        lengths = jax.lax.scan(scan, (carry, columns), inputs, reverse=flags.reverse)[1]
    return lengths, counted(begun, warmup)


def _columns(size: int, k: int | None, dtype: DTypeLike) -> jax.Array:
    """Return k orthonormal columns in general position, [S, k]: the first k of a fixed set of S."""
    k = size if k is None else _check.integer("k", k)
    if not 1 <= k <= size:
        raise ValueError(f"k: expected 1 to {size}, the size of the carry, got {k}")
    drawn = jax.random.normal(jax.random.key(0), (size, size), dtype)
    return orthonormal(drawn[:, :k])[0]


def orthonormal(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Orthonormalise columns in order, as QR does. a: float[S, k].

    This is the Gram-Schmidt process, with every column orthogonalised twice against those before
    it, which is enough to remove rounding errors. LAPACK's QR deadlocks if two batches of it run in
    one program (see `initializers.Orthogonal`), and under `sequential_vmap` it has no reverse
    derivative. On a CPU, Gram-Schmidt is as fast for k <= 8, and 1.7 times slower for all of 64 or
    128 columns.

    Returns:
        Q [S, k], zero in columns that depend on those before; |R[i, i]|, float[k].
    """

    def column(j: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, lengths = state
        rest = a[:, j]
        for _ in range(2):
            rest = rest - q @ (rest @ q)
        length = norm(rest)
        unit = rest / jnp.where(length == 0, jnp.ones_like(length), length)
        return q.at[:, j].set(unit), lengths.at[j].set(length)

    return jax.lax.fori_loop(0, a.shape[1], column, (jnp.zeros_like(a), jnp.zeros_like(a[0])))
