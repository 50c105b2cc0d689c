"""The curse of memory: what lasts long is large, and its gradient by the weight larger still."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check


class CurseOfMemory(NamedTuple):
    """Of h' = l h + x in its stationary state, x being white noise of variance 1."""

    variance: jax.Array  # as l, E[h^2], in units of E[x^2]
    sensitivity: jax.Array  # as l, E[(dh/dl)^2], in units of E[x^2]


def curse_of_memory(decay: ArrayLike) -> CurseOfMemory:
    """Compute E[h^2] and E[(dh/dl)^2] of h_t = l h_{t-1} + x_t (Zucchet & Orvieto 2024).

    The closed forms for white x of variance 1::

        E[h^2]       = 1 / (1 - l^2)
        E[(dh/dl)^2] = (1 + l^2) / (1 - l^2)^3

    So a unit that is to remember n steps, l = exp(-1/n), is sqrt(n / 2) in size, and a change of l
    moves it by n^1.5 / 2: gradients do not vanish there, and yet learning is hard.

    Args:
        decay: l, float[...].

    Returns:
        Variance and sensitivity, each as l; inf where `|l| >= 1`, which has no stationary state.

    Raises:
        TypeError: on a decay that is not floating.

    >>> [round(float(value), 3) for value in curse_of_memory(0.5)]
    [1.333, 2.963]
    """
    decay = _check.array("decay", decay, "float[...]")
    _check.floating("decay", decay.dtype, "cast it")
    lost = jnp.maximum((1 - decay) * (1 + decay), 0)  # 1 - l^2, without its rounding at l near 1
    return CurseOfMemory(1 / lost, (1 + jnp.square(decay)) / lost**3)
