"""An affine map of each step's features."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax

from seqcells import _check, initializers
from seqcells._linear import affine_by_head
from seqcells._static import exported
from seqcells.cells import _dense
from seqcells.initializers import Initializer
from seqcells.layers._each import TypedStep

ACTIVATIONS = {
    **_dense.ACTIVATIONS,
    "gelu": jax.nn.gelu,  # by tanh
    "gelu_exact": functools.partial(jax.nn.gelu, approximate=False),  # by erf
    "silu": jax.nn.silu,
}


def check_activation(value: object, name: str = "activation") -> None:
    """Raise unless the argument `name` names an activation of layers."""
    _dense.check_activation(value, name, ACTIVATIONS)


@exported
class DenseParams(NamedTuple):
    """Parameters of `Dense`."""

    w: jax.Array  # [D/heads, size]
    b: jax.Array | None  # [size]


@dataclasses.dataclass(frozen=True, repr=False)
class Dense(TypedStep):
    """An affine map of each step's features, y_t = act(W x_t + b), for instance as a readout.

    Args:
        size: features of the output, at least 1.
        activation: "identity", "tanh", "relu", "sigmoid", "silu", "gelu" (by tanh) or
            "gelu_exact" (by erf).
        bias: "single" (b) or "none".
        heads: groups of features that the map does not mix: a divisor of D, where `size` is a
            multiple of D. Outputs D * i to D * (i + 1) are such a block-diagonal map for each i.
        w_init: initialiser of w float[D, size]; with heads, called on float[D/heads, size].
        b_init: initialiser of b float[size].
        dtype: dtype of the product's operands and of the output; that of the input if None. The
            product is summed in at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias, or in `init` on heads that do
            not divide the features.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Stack((sc.Dense(8, "relu"), sc.GRU(16), sc.Dense(3)))
    >>> params = net.init(jax.random.key(0), input_size=2)
    >>> carry, ys = sc.unroll(net, params, jnp.ones((5, 4, 2)))
    >>> ys.shape
    (5, 4, 3)
    """

    size: int
    activation: str = "identity"
    _: dataclasses.KW_ONLY
    bias: str = "single"
    heads: int = 1
    w_init: Initializer = initializers.Lecun()
    b_init: Initializer = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.size("size", self.size, least=1)
        check_activation(self.activation)
        _check.choice("bias", self.bias, ("single", "none"))
        _check.size("heads", self.heads, least=1)
        initializers.check("w_init", self.w_init, 1)
        initializers.check("b_init", self.b_init, 1)

    def init(self, key: jax.Array, input_size: int) -> DenseParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        _check.key("key", key)
        rows = _check.size("input_size", input_size, least=0)
        if self.heads > 1:
            _check.divisor("heads", self.heads, rows, "input_size")
            _check.divisor("input_size", rows, self.size, "size")
        shape = (rows // self.heads, self.size)
        k_w, k_b = jax.random.split(key)
        w = initializers.per_gate("w_init", self.w_init, k_w, shape, 1, self.param_dtype)
        if self.bias == "none":
            return DenseParams(w, None)
        b = initializers.per_gate("b_init", self.b_init, k_b, shape[1:], 1, self.param_dtype)
        return DenseParams(w, b)

    def apply(self, params: DenseParams, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Compute act(W x + b). xs: float[..., D]. Returns float[..., size]."""
        dtype = self.compute_dtype(xs)
        ys = affine_by_head(xs, params.w, params.b, self.heads, dtype)
        return ACTIVATIONS[self.activation](ys).astype(dtype)
