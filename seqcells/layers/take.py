"""Some of each step's features."""

from __future__ import annotations

import dataclasses

import jax

from seqcells import _check
from seqcells._types import InputSize
from seqcells.layers._each import EachStep


@dataclasses.dataclass(frozen=True, repr=False)
class Take(EachStep):
    """The features from `start` to before `stop`, for a part of a `Parallel` that reads no others.

    Args:
        start: the first feature, at least 0.
        stop: the one after the last, above `start`.

    Raises:
        ValueError: on an empty range, or on inputs with fewer features than `stop`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> sc.Take(1, 3).step(None, (), jnp.arange(4.0))[1].tolist()
    [1.0, 2.0]
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.size("start", self.start, least=0)
        _check.size("stop", self.stop, least=self.start + 1)

    def init(self, key: jax.Array, input_size: InputSize) -> None:
        """Return None: there are no parameters."""

    def apply(self, params: None, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Return the features. xs: float[..., D]. Returns float[..., stop - start]."""
        if xs.shape[-1] < self.stop:
            got = f"{xs.shape[-1]} for {self}"
            raise ValueError(f"xs: expected at least stop = {self.stop} features, got {got}")
        return xs[..., self.start : self.stop]
