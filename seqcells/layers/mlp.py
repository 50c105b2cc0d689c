"""Perceptrons of each step's features: two layers, and gated ones."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax

from seqcells import _check, initializers
from seqcells._static import exported
from seqcells.initializers import Initializer
from seqcells.layers._each import TypedStep
from seqcells.layers.dense import Dense, DenseParams, check_activation


@dataclasses.dataclass(frozen=True, repr=False)
class _Hidden(TypedStep):
    """Affine maps to `width` features and back to as many as there were, or to `size`."""

    width: int
    activation: str
    _: dataclasses.KW_ONLY
    size: int | None = None
    bias: str = "single"
    w_init: Initializer = initializers.Lecun()
    b_init: Initializer = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.size("width", self.width, least=1)
        check_activation(self.activation)
        if self.size is not None:
            _check.size("size", self.size, least=1)
        _ = self._dense(self.width)  # which checks the rest

    def _dense(self, size: int, activation: str = "identity") -> Dense:
        """Return one of the maps."""
        names = ("bias", "w_init", "b_init", "dtype", "param_dtype")
        return Dense(size, activation, **{name: getattr(self, name) for name in names})

    def _out(self, input_size: int) -> Dense:
        """Return the last of the maps."""
        return self._dense(input_size if self.size is None else self.size)


@exported
class MLPParams(NamedTuple):
    """Parameters of `MLP`."""

    hidden: DenseParams  # [D, width]
    out: DenseParams  # [width, size]


@dataclasses.dataclass(frozen=True, repr=False)
class MLP(_Hidden):
    """A perceptron of two layers, y_t = W_o act(W x_t + b) + b_o.

    Args:
        width: features between the layers, at least 1.
        activation: "gelu" (by tanh), "gelu_exact", "silu", "tanh", "relu", "sigmoid" or "identity".
        size: features of the output; as many as those of the input if None.
        bias: "single" (b and b_o) or "none".
        w_init: initialiser of the matrices.
        b_init: initialiser of the biases.
        dtype: as in `Dense`.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.MLP(8).init(jax.random.key(0), input_size=2))
    42
    """

    activation: str = "gelu"

    def init(self, key: jax.Array, input_size: int) -> MLPParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        _check.key("key", key)
        k_hidden, k_out = jax.random.split(key)
        hidden = self._dense(self.width).init(k_hidden, input_size)
        return MLPParams(hidden, self._out(input_size).init(k_out, self.width))

    def apply(self, params: MLPParams, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Compute the outputs. xs: float[..., D]. Returns float[..., size]."""
        hidden = self._dense(self.width, self.activation).apply(params.hidden, xs, None)
        return self._out(xs.shape[-1]).apply(params.out, hidden, None)


@exported
class GLUParams(NamedTuple):
    """Parameters of `GLU`."""

    gate: DenseParams  # [D, width], V
    value: DenseParams  # [D, width], W
    out: DenseParams  # [width, size], W_o


@dataclasses.dataclass(frozen=True, repr=False)
class GLU(_Hidden):
    """Gated linear units (Dauphin et al. 2017) and a map back, as Shazeer (2020) has them.

    y_t = W_o (act(V x_t + c) * (W x_t + b)) + b_o. With "gelu" it is the GeGLU of Griffin and
    xLSTM, with "silu" the SwiGLU.

    Args:
        width: gated units, at least 1.
        activation: that of the gate: "sigmoid", "gelu" (by tanh), "gelu_exact", "silu", "relu",
            "tanh" or "identity" (bilinear).
        size: features of the output; as many as those of the input if None.
        bias: "single" (b, c and b_o) or "none".
        w_init: initialiser of the matrices.
        b_init: initialiser of the biases.
        dtype: as in `Dense`.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.GLU(8, "gelu").init(jax.random.key(0), input_size=2))
    66
    """

    activation: str = "sigmoid"

    def init(self, key: jax.Array, input_size: int) -> GLUParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        _check.key("key", key)
        k_gate, k_value, k_out = jax.random.split(key, 3)
        hidden = self._dense(self.width)
        gate, value = hidden.init(k_gate, input_size), hidden.init(k_value, input_size)
        return GLUParams(gate, value, self._out(input_size).init(k_out, self.width))

    def apply(self, params: GLUParams, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Compute the outputs. xs: float[..., D]. Returns float[..., size]."""
        gate = self._dense(self.width, self.activation).apply(params.gate, xs, None)
        value = self._dense(self.width).apply(params.value, xs, None)
        return self._out(xs.shape[-1]).apply(params.out, gate * value, None)
