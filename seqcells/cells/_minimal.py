"""Base class of minGRU and minLSTM: gates and a candidate that read the input alone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells._cell import LinearCell
from seqcells._linear import affine, gates
from seqcells._types import Params
from seqcells.cells._dense import ACTIVATIONS, ActivatedCell, Activations, Gates


def positive(a: jax.Array) -> jax.Array:
    """Compute a + 1/2 where a >= 0, else sigmoid(a)."""
    return jnp.where(a >= 0, a + 0.5, jax.nn.sigmoid(a))


@dataclasses.dataclass(frozen=True, repr=False)
class MinimalCell(ActivatedCell, LinearCell):
    """A linear cell whose drive are the sums W x + b of its gates, the candidate last."""

    PARAMS: ClassVar[type]  # a NamedTuple of w_ih and b
    ACTIVATIONS: ClassVar[Activations] = {**ACTIVATIONS, "positive": positive}

    activation: str = "identity"

    def init(self, key: jax.Array, input_size: int) -> Params:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        shape = self._sizes(key, input_size)
        k_ih, k_bias = jax.random.split(key)
        return self.PARAMS(self._draw("w_ih_init", k_ih, shape), self._bias(k_bias))

    def project(self, params: Params, x: jax.Array) -> Gates:
        """Compute W x + b, gate by gate. x: float[*B, D]."""
        return gates(affine(x, params.w_ih, params.b, self.compute_dtype(x)), len(self.GATES))
