"""The gated recurrent unit of Cho et al. (2014), its reset gate after or before the product."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine, gates
from seqcells.cells._dense import DenseCell
from seqcells.initializers import GateInitializers

Gates = tuple[jax.Array, ...]  # r, z, n: float[*B, H] each


class GRUParams(NamedTuple):
    """Parameters of `GRU`; gates in the order r|z|n along the last axis."""

    w_ih: jax.Array  # [D, 3H], W_r|W_z|W_n
    w_hh: jax.Array  # [H, 3H], U_r|U_z|U_n
    b_ih: jax.Array | None  # [3H], b_r|b_z|b_n; None where bias="none"
    b_hh: jax.Array | None  # [3H], c_r|c_z|c_n; None unless bias="double"


@dataclasses.dataclass(frozen=True)
class GRU(DenseCell):
    """Gated recurrent unit (Cho et al. 2014).

    z is the fraction that is WRITTEN::

        r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)       reset gate
        z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)       update gate
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))  reset="after" (cuDNN)
        n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}) + c_n)  reset="before" (Chung)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    PyTorch, Keras, Flax and Equinox have z the other way round: there it keeps the old value. The
    two resets are different functions; no weights make one equal the other.

    Args:
        hidden_size: H, at least 1.
        reset: "after" (the gate scales the product) or "before" (it scales the carry).
        bias: "double" (b and c), "single" (b alone) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (r, z, n) of them.
        w_hh_init: initialiser of w_hh, called on float[H, H] a gate; or a tuple (r, z, n).
        b_ih_init: initialiser of b_ih, called on float[H] a gate; or a tuple (r, z, n).
        b_hh_init: initialiser of b_hh, called on float[H] a gate; or a tuple (r, z, n).
        dtype: dtype of computation; that of the input where None. The carry is held in float32 when
            it is narrower.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown reset or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> params = sc.GRU(64).init(jax.random.key(0), input_size=1)
    >>> sc.param_count(params)
    12864
    """

    GATES: ClassVar[int] = 3

    reset: str = "after"
    bias: str = "double"
    _: dataclasses.KW_ONLY
    b_ih_init: GateInitializers = initializers.zeros
    b_hh_init: GateInitializers = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("reset", self.reset, ("after", "before"))
        _check.choice("bias", self.bias, ("double", "single", "none"))

    def init(self, key: jax.Array, input_size: int) -> GRUParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_bias = self._matrices(key, input_size)
        k_b, k_c = jax.random.split(k_bias)
        width = (self.hidden_size,)
        b_ih = self._draw("b_ih_init", k_b, width) if self.bias != "none" else None
        b_hh = self._draw("b_hh_init", k_c, width) if self.bias == "double" else None
        return GRUParams(w_ih, w_hh, b_ih, b_hh)

    def project(self, params: GRUParams, x: jax.Array) -> Gates:
        """Compute W x + b, gate by gate. x: float[*B, D]."""
        return gates(affine(x, params.w_ih, params.b_ih, self.compute_dtype(x)), 3)

    def mix(self, params: GRUParams, carry: jax.Array) -> Gates:
        """Compute U h + c in the dtype of the carry, gate by gate. carry: float[*B, H]."""
        return gates(affine(carry, params.w_hh, params.b_hh, carry.dtype), 3)

    def gate(self, carry: jax.Array, drive: Gates, mixed: Gates) -> jax.Array:
        """Compute h_t for reset="after", elementwise."""
        r = jax.nn.sigmoid(drive[0] + mixed[0])
        z = jax.nn.sigmoid(drive[1] + mixed[1])
        n = jnp.tanh(drive[2] + r * mixed[2])
        return (1 - z) * carry + z * n

    def why_not_split(self) -> str | None:
        """Say why reset="before" is no split cell."""
        if self.reset == "after":
            return None
        return 'reset="before" has two products in sequence, U_r h and then U_n (r * h)'

    def recur(self, params: GRUParams, carry: jax.Array, drive: Gates) -> jax.Array:
        """Compute h_t."""
        if self.reset == "after":
            return super().recur(params, carry, drive)
        H = self.hidden_size
        dtype = carry.dtype
        u_rz, u_n = params.w_hh[:, : 2 * H], params.w_hh[:, 2 * H :]
        c_rz, c_n = (None, None) if params.b_hh is None else jnp.split(params.b_hh, [2 * H])
        mixed_r, mixed_z = gates(affine(carry, u_rz, c_rz, dtype), 2)
        r = jax.nn.sigmoid(drive[0] + mixed_r)
        z = jax.nn.sigmoid(drive[1] + mixed_z)
        n = jnp.tanh(drive[2] + affine(r * carry, u_n, c_n, dtype))
        return (1 - z) * carry + z * n
