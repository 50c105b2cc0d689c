"""What the cells share that discretise a model in continuous time: time steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._types import Shape


def check_steps(low: float, high: float) -> None:
    """Raise unless the arguments `step_min` and `step_max` are ends of a range above 0."""
    _check.positive("step_min", low)
    _check.number("step_max", high, f"a number of at least step_min = {low}", lambda a: a >= low)


def draw_logs(key: jax.Array, shape: Shape, low: float, high: float, dtype: DTypeLike) -> jax.Array:
    """Draw logarithms of time steps, uniform between those of `low` and `high`."""
    ends = (jnp.log(jnp.asarray(end, dtype)) for end in (low, high))
    return jax.random.uniform(key, shape, dtype, *ends)


def inverse_softplus(steps: jax.Array) -> jax.Array:
    """Compute the biases for which softplus gives time steps above 0."""
    return steps + jnp.log(-jnp.expm1(-steps))
