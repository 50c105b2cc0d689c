"""The independently recurrent network: every unit reads only its own past."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells import initializers
from seqcells._cell import SplitCell
from seqcells._linear import affine
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._dense import ActivatedCell
from seqcells.initializers import Initializer


@exported
class IndRNNParams(NamedTuple):
    """Parameters of `IndRNN`."""

    w_ih: jax.Array  # [D, H], W
    w_hh: jax.Array  # [H], u
    b: jax.Array | None  # [H]


@dataclasses.dataclass(frozen=True, repr=False)
class IndRNN(ActivatedCell, SplitCell):
    """Independently recurrent cell, h_t = act(W x_t + u * h_{t-1} + b) (Li et al. 2018).

    The product with u is elementwise, so a unit's gradient over k steps is u^k times its slopes.
    For ReLU and sequences of T steps, the paper clips abs(u) to 2^(1/T); do so after each update if
    needed.

    Args:
        hidden_size: H, at least 1.
        activation: "relu", "tanh", "sigmoid" or "identity".
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih float[D, H].
        w_hh_init: initialiser of w_hh float[H], which holds u.
        b_init: initialiser of b float[H].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.IndRNN(4).init(jax.random.key(0), input_size=2))
    16
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)
    UNIT_WEIGHTS = ("w_ih", "w_hh", "b")

    activation: str = "relu"
    _: dataclasses.KW_ONLY
    w_hh_init: Initializer = initializers.Uniform(0.0, 1.0)

    def init(self, key: jax.Array, input_size: int) -> IndRNNParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        shape = self._sizes(key, input_size)
        k_ih, k_hh, k_bias = jax.random.split(key, 3)
        return IndRNNParams(
            self._draw("w_ih_init", k_ih, shape),
            self._draw("w_hh_init", k_hh, (self.hidden_size,)),
            self._bias(k_bias),
        )

    def project(self, params: IndRNNParams, x: jax.Array) -> jax.Array:
        """Compute W x + b. x: float[*B, D]. Returns float[*B, H]."""
        return affine(x, params.w_ih, params.b, self.compute_dtype(x))

    def mix(self, params: IndRNNParams, carry: jax.Array) -> jax.Array:
        """Compute u * h in the dtype of the carry. carry: float[*B, H]. Returns float[*B, H]."""
        return as_rows(params.w_hh.astype(carry.dtype), carry) * carry

    def gate(self, carry: jax.Array, drive: jax.Array, mixed: jax.Array) -> jax.Array:
        """Apply the activation; the old carry enters only through the product."""
        return self.act(drive + mixed)
