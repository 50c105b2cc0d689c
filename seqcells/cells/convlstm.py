"""The convolutional LSTM."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import initializers
from seqcells._static import exported
from seqcells.cells._conv import ConvCell
from seqcells.cells._dense import BiasedCell, Gates
from seqcells.cells.lstm import LSTMCarry, sums_and_cell
from seqcells.initializers import GateInitializers


@exported
class ConvLSTMParams(NamedTuple):
    """Parameters of `ConvLSTM`; gates in the order i|f|g|o along the last axis."""

    w_ih: jax.Array  # [kh, kw, C, 4F], W_i|W_f|W_g|W_o
    w_hh: jax.Array  # [kh, kw, F, 4F], U_i|U_f|U_g|U_o
    b: jax.Array | None  # [4F], b_i|b_f|b_g|b_o; None if bias="none"


@dataclasses.dataclass(frozen=True, repr=False)
class ConvLSTM(ConvCell, BiasedCell):
    """Convolutional LSTM (Shi et al. 2015, arXiv 1506.04214) over images float[T, *B, H, W, C].

    The equations of `LSTM`, in which W x and U h are convolutions::

        i_t = sigmoid(W_i x_t + U_i h_{t-1} + b_i)  input gate
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)  forget gate
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)     candidate
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o)  output gate
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    The carry is `LSTMCarry(h, c)`, each float[*B, H, W, F]; h is also the output. Images are padded
    with zeros to keep their size (even kernels: one more at the end), and parameters do not depend
    on it. So `init` takes C, or (H, W, C), with which `summary` shows the outputs' shape. The
    paper's peepholes have a weight for each pixel; they are left out, as in Keras, Flax and Haiku.
    The bias of the forget gate starts at 1, as in `LSTM`.

    Args:
        hidden_size: F, the channels of the memory, at least 1.
        kernel_size: height and width of the kernels of w_ih; an int is both.
        recurrent_kernel_size: the same for w_hh; that of w_ih if None.
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called per gate on float[kh, kw, C, F]; or a tuple
            (i, f, g, o) of them.
        w_hh_init: initialiser of w_hh, called per gate on float[kh, kw, F, F]; or a tuple.
        b_init: initialiser of b, called per gate on float[F]; or a tuple (i, f, g, o).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a kernel that is no pair, or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.ConvLSTM(8, kernel_size=5, recurrent_kernel_size=(1, 3))
    >>> params, xs = cell.init(jax.random.key(0), input_size=3), jnp.ones((5, 2, 16, 12, 3))
    >>> carry, ys = sc.unroll(cell, params, xs)
    >>> params.w_ih.shape, params.w_hh.shape, carry.c.shape
    ((5, 5, 3, 32), (1, 3, 8, 32), (2, 16, 12, 8))
    """

    GATES: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    CARRY: ClassVar[type] = LSTMCarry
    PARAMS: ClassVar[type] = ConvLSTMParams

    _: dataclasses.KW_ONLY
    b_init: GateInitializers = (
        initializers.zeros,
        initializers.ones,
        initializers.zeros,
        initializers.zeros,
    )

    def gate(self, carry: LSTMCarry, drive: Gates, mixed: Gates) -> LSTMCarry:
        """Compute h_t and c_t, elementwise."""
        *_, o, c = sums_and_cell(None, carry, drive, mixed)
        return LSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    def gates(
        self,
        params: ConvLSTMParams,
        carry: LSTMCarry,
        drive: Gates,
        mixed: Gates | None = None,
    ) -> dict[str, jax.Array]:
        """Compute i, f and o."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        *sums, _ = sums_and_cell(None, carry, drive, mixed)
        return dict(zip("ifo", map(jax.nn.sigmoid, sums), strict=True))
