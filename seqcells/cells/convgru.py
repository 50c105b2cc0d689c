"""The convolutional GRU, its reset gate after or before the convolution."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells._static import exported
from seqcells.cells._conv import ConvCell
from seqcells.cells._gated import GatedCell, Gates


@exported
class ConvGRUParams(NamedTuple):
    """Parameters of `ConvGRU`; gates in the order r|z|n along the last axis."""

    w_ih: jax.Array  # [kh, kw, C, 3F], W_r|W_z|W_n
    w_hh: jax.Array  # [kh, kw, F, 3F], U_r|U_z|U_n
    b_ih: jax.Array | None  # [3F], b_r|b_z|b_n; None if bias="none"
    b_hh: jax.Array | None  # [3F], c_r|c_z|c_n; [F], c_n, if bias="candidate"; or None


@dataclasses.dataclass(frozen=True, repr=False)
class ConvGRU(ConvCell, GatedCell):
    """Convolutional GRU (Ballas et al. 2016, arXiv 1511.06432) over images float[T, *B, H, W, C].

    The equations of `GRU`, in which W x and U h are convolutions. z is the fraction that is
    written, as in the paper::

        r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)       reset gate
        z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)       update gate
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))  reset_after=True
        n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}) + c_n)  reset_after=False (the paper)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    The carry float[*B, H, W, F] is also the output. Images are padded with zeros to keep their size
    (even kernels: one more at the end), and parameters do not depend on it. So `init` takes C, or
    (H, W, C), with which `summary` shows the outputs' shape. The paper has no biases.

    Args:
        hidden_size: F, the channels of the memory, at least 1.
        kernel_size: height and width of the kernels of w_ih; an int is both.
        recurrent_kernel_size: the same for w_hh; that of w_ih if None.
        reset_after: whether r scales the convolution; if False, r scales the carry before it.
        bias: "double" (b and c), "single" (b alone), "candidate" (b and c_n) or "none".
        w_ih_init: initialiser of w_ih, called per gate on float[kh, kw, C, F]; or a tuple (r, z, n)
            of them.
        w_hh_init: initialiser of w_hh, called per gate on float[kh, kw, F, F]; or a tuple.
        b_ih_init: initialiser of b_ih, called per gate on float[F]; or a tuple (r, z, n).
        b_hh_init: initialiser of b_hh, called per gate on float[F]; or a tuple (r, z, n).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a kernel that is no pair, or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.ConvGRU(8)
    >>> params, xs = cell.init(jax.random.key(0), input_size=3), jnp.ones((5, 2, 16, 12, 3))
    >>> carry, ys = sc.unroll(cell, params, xs, lengths=jnp.array([5, 2]))
    >>> carry.shape, ys.shape
    ((2, 16, 12, 8), (5, 2, 16, 12, 8))
    """

    GATES: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    PARAMS: ClassVar[type] = ConvGRUParams

    def reset_and_write(self, sums: Gates) -> tuple[jax.Array, jax.Array]:
        """Compute r and z, elementwise."""
        r, z = map(jax.nn.sigmoid, sums)
        return r, z
