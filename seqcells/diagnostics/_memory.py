"""The curse of memory: a unit with a long memory has a large state, and an even larger gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._static import exported


@exported
class CurseOfMemory(NamedTuple):
    """Stationary moments of h_t = l h_{t-1} + x_t, where x is white noise of variance 1."""

    variance: jax.Array  # shaped like l, E[h^2], in units of E[x^2]
    sensitivity: jax.Array  # shaped like l, E[(dh/dl)^2], in units of E[x^2]


def curse_of_memory(decay: ArrayLike) -> CurseOfMemory:
    """Compute E[h^2] and E[(dh/dl)^2] of h_t = l h_{t-1} + x_t (Zucchet & Orvieto 2024).

    The closed forms for white x of variance 1::

        E[h^2]       = 1 / (1 - l^2)
        E[(dh/dl)^2] = (1 + l^2) / (1 - l^2)^3

    A unit that remembers n steps, l = exp(-1/n), therefore has a size of sqrt(n / 2), and its
    derivative by l a size of n^1.5 / 2. Learning is hard even though gradients do not vanish.

    Args:
        decay: l, float[...].

    Returns:
        Variance and sensitivity, shaped like l; inf if `|l| >= 1`, which has no stationary state.

    Raises:
        TypeError: if the decay is not floating.

    >>> [round(float(value), 3) for value in curse_of_memory(0.5)]
    [1.333, 2.963]
    """
    decay = _check.array("decay", decay, "float[...]")
    _check.floating("decay", decay.dtype, "cast it")
    lost = jnp.maximum((1 - decay) * (1 + decay), 0)  # 1 - l^2, exact for l near 1
    return CurseOfMemory(1 / lost, (1 + jnp.square(decay)) / lost**3)
