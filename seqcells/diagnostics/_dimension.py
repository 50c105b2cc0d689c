"""How many dimensions a trajectory or an attractor has."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells._types import Carry
from seqcells.diagnostics._reading import same_lead


def kaplan_yorke_dimension(exponents: ArrayLike) -> jax.Array:
    """Compute the dimension of an attractor from its Lyapunov exponents (Kaplan & Yorke 1979).

    With exponents in falling order, and k the most of them whose sum is not negative ::

        D = k + (lambda_1 + ... + lambda_k) / |lambda_{k+1}|

    A stable fixed point has 0, a limit cycle 1, and a chaotic attractor a fraction. Where no sum
    becomes negative, the volume of the whole space does not shrink, and D is its dimension, S.

    Args:
        exponents: float[..., S], all of them, in any order, as `lyapunov_exponents` returns them.

    Returns:
        float[...]; NaN if an exponent is.

    >>> round(float(kaplan_yorke_dimension([0.906, 0.0, -14.572])), 3)  # Lorenz's system
    2.062
    """
    exponents = jnp.asarray(exponents)
    if exponents.ndim < 1 or not exponents.shape[-1]:
        raise ValueError(f"exponents: expected float[..., S], got {exponents.shape}")
    ordered = jnp.flip(jnp.sort(exponents, axis=-1), axis=-1)
    sums = jnp.cumsum(ordered, axis=-1)
    count = jnp.sum(jnp.cumulative_prod((sums >= 0).astype(jnp.int32), axis=-1), axis=-1)
    size = exponents.shape[-1]
    before = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)

    def at(a: jax.Array, i: jax.Array) -> jax.Array:
        return jnp.take_along_axis(a, i[..., None], axis=-1)[..., 0]

    rest, following = at(before, count), at(ordered, jnp.minimum(count, size - 1))
    part = jnp.where(count == size, 0.0, rest / jnp.abs(jnp.where(count == size, 1.0, following)))
    spoiled = jnp.any(jnp.isnan(exponents), axis=-1)
    return jnp.where(spoiled, jnp.nan, count.astype(exponents.dtype) + part)


def participation_ratio(carries: Carry, *, axes: int = 2) -> jax.Array:
    """Compute the number of directions in which carries vary (cf. Gao et al. 2017).

    With eigenvalues v of their covariance, (sum of v)^2 / (sum of v^2): 1 if they lie on a line,
    and S if they vary equally in all directions.

    Args:
        carries: [T, *B, ...], as `trajectory` returns them; several leaves are one vector.
        axes: the number of axes over which the covariance is taken, time and batch.

    Returns:
        float[], from 1 to S; NaN for carries that do not vary.

    >>> import numpy as np
    >>> float(participation_ratio(np.random.default_rng(0).normal(size=(5000, 4)), axes=1)) > 3.98
    True
    """
    leaves, lead = same_lead("carries", carries, axes)
    rows = jnp.concatenate([leaf.reshape(math.prod(lead), -1) for leaf in leaves], axis=-1)
    centred = rows - jnp.mean(rows, axis=0, keepdims=True)
    covariance = jnp.matmul(centred.T, centred, precision="highest")
    return jnp.trace(covariance) ** 2 / jnp.sum(covariance**2)
