"""The gated recurrent unit, its reset gate after or before the product."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells._static import exported
from seqcells.cells._gated import GatedCell, Gates


@exported
class GRUParams(NamedTuple):
    """Parameters of `GRU`; gates in the order r|z|n along the last axis."""

    w_ih: jax.Array  # [D, 3H], W_r|W_z|W_n
    w_hh: jax.Array  # [H, 3H], U_r|U_z|U_n
    b_ih: jax.Array | None  # [3H], b_r|b_z|b_n; None if bias="none"
    b_hh: jax.Array | None  # [3H], c_r|c_z|c_n; [H], c_n, if bias="candidate"; or None


@dataclasses.dataclass(frozen=True, repr=False)
class GRU(GatedCell):
    """Gated recurrent unit (Cho et al. 2014; Chung et al. 2014).

    z is the fraction that is written, as in Chung et al. (2014, arXiv 1412.3555) and Haiku::

        r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)       reset gate
        z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)       update gate
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))  reset_after=True (cuDNN)
        n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}) + c_n)  reset_after=False (Chung)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    In PyTorch, Keras, Flax, Equinox and Cho et al. (2014, arXiv 1406.1078, eq. 7), z is the
    fraction that is kept. The two forms of n are different functions: no weights make them equal.

    Args:
        hidden_size: H, at least 1.
        reset_after: whether r scales the product; if False, r scales the carry before the product.
        bias: "double" (b and c), "single" (b alone), "candidate" (b and c_n, as in the GRUCell of
            Flax and Equinox) or "none".
        w_ih_init: initialiser of w_ih, called per gate on float[D, H]; or a tuple (r, z, n) of
            them.
        w_hh_init: initialiser of w_hh, called per gate on float[H, H]; or a tuple (r, z, n).
        b_ih_init: initialiser of b_ih, called per gate on float[H]; or a tuple (r, z, n).
        b_hh_init: initialiser of b_hh, called per gate on float[H]; or a tuple (r, z, n).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1 or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> params = sc.GRU(64).init(jax.random.key(0), input_size=1)
    >>> sc.param_count(params)
    12864
    """

    GATES: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    RECURRENT_WEIGHTS = ("w_hh", "b_hh")
    UNIT_WEIGHTS = ("w_ih", "b_ih")
    PARAMS: ClassVar[type] = GRUParams

    def reset_and_write(self, sums: Gates) -> tuple[jax.Array, jax.Array]:
        """Compute r and z, elementwise."""
        r, z = map(jax.nn.sigmoid, sums)
        return r, z
