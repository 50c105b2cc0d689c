"""Layers that compute each step independently of the others."""

from __future__ import annotations

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._layer import Layer, Start, Time
from seqcells._model import check_fit, one_input
from seqcells._static import brief
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params


@dataclasses.dataclass(frozen=True, repr=False)
class EachStep(Layer):
    """A layer without a memory: its carry is ()."""

    def __repr__(self) -> str:
        return brief(self)

    def init_carry(self, x: Inputs, params: Params = None) -> tuple[()]:
        """Return (), the carry of a layer without a memory."""
        one_input(self, x)
        return ()

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` fit this layer and inputs of this size."""
        check_fit(self, params, input_size)

    @abc.abstractmethod
    def apply(self, params: Params, xs: Inputs, key: jax.Array | None) -> Outputs:
        """Compute the outputs for inputs with any leading axes."""

    def run(
        self, params: Params, xs: Inputs, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Carry, Outputs]:
        """Compute the outputs of all steps, or of one; zeros at padding."""
        return start.carry, time.silence(self.apply(params, time.silence(xs), key))


@dataclasses.dataclass(frozen=True, repr=False)
class TypedStep(EachStep):
    """A layer without a memory, with parameters in a dtype."""

    _: dataclasses.KW_ONLY
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        _check.settle_dtypes(self)

    def compute_dtype(self, x: jax.Array) -> DTypeLike:
        """Return the dtype of the outputs and of the operands of products."""
        return x.dtype if self.dtype is None else self.dtype
