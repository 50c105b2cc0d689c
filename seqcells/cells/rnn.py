"""The simple recurrent network of Elman (1990)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells._linear import affine
from seqcells._static import exported
from seqcells.cells._dense import ActivatedCell, DenseCell


@exported
class RNNParams(NamedTuple):
    """Parameters of `RNN`."""

    w_ih: jax.Array  # [D, H], W_x
    w_hh: jax.Array  # [H, H], W_h
    b: jax.Array | None  # [H]


@dataclasses.dataclass(frozen=True, repr=False)
class RNN(ActivatedCell, DenseCell):
    """Simple recurrent cell, h_t = act(W_h h_{t-1} + W_x x_t + b) (Elman 1990).

    `RNN(H, "relu", w_hh_init=initializers.Identity())` is the IRNN of Le, Jaitly & Hinton (2015).

    Args:
        hidden_size: H, at least 1.
        activation: "tanh", "relu", "sigmoid" or "identity".
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih float[D, H].
        w_hh_init: initialiser of w_hh float[H, H].
        b_init: initialiser of b float[H].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> cell = sc.RNN(4)
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> sc.param_count(params)
    28
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)
    INPUT_WEIGHTS = ("w_ih", "b")
    RECURRENT_WEIGHTS = ("w_hh", None)

    def init(self, key: jax.Array, input_size: int) -> RNNParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_bias = self._matrices(key, input_size)
        return RNNParams(w_ih, w_hh, self._bias(k_bias))

    def project(self, params: RNNParams, x: jax.Array) -> jax.Array:
        """Compute W_x x + b. x: float[*B, D]. Returns float[*B, H]."""
        return affine(x, params.w_ih, params.b, self.compute_dtype(x))

    def mix(self, params: RNNParams, carry: jax.Array) -> jax.Array:
        """Compute W_h h in the dtype of the carry. carry: float[*B, H]. Returns float[*B, H]."""
        return affine(carry, params.w_hh, None, carry.dtype)

    def gate(self, carry: jax.Array, drive: jax.Array, mixed: jax.Array) -> jax.Array:
        """Apply the activation; the old carry enters only through the product."""
        return self.act(drive + mixed)
