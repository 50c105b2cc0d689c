"""Dropout of each step's features."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._shares import bernoulli
from seqcells._trees import select
from seqcells._types import InputSize
from seqcells.layers._each import EachStep


@dataclasses.dataclass(frozen=True, repr=False)
class Dropout(EachStep):
    """Dropout, drawn anew at every step (Srivastava et al. 2014); without a key the identity.

    Kept features are scaled by 1 / (1 - rate). `VariationalDropout` uses one mask per sequence.

    Args:
        rate: share of the features that are dropped, from 0 to below 1.

    Raises:
        ValueError: on a rate outside [0, 1).
    """

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.rate("rate", self.rate)

    def init(self, key: jax.Array, input_size: InputSize) -> None:
        """Return None: there are no parameters."""

    def apply(self, params: None, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Drop features. xs: float[..., D]. Returns the same."""
        return drop(key, self.rate, xs)


def drop(key: jax.Array | None, rate: float, xs: jax.Array) -> jax.Array:
    """Set a random share `rate` of xs to zero and scale the others; without a key return xs."""
    if key is None or not rate:
        return xs
    kept = bernoulli(key, 1 - rate, xs.shape, axis=1)
    return select(kept, xs / (1 - rate), jnp.zeros_like(xs))
