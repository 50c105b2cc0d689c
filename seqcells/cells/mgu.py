"""The minimal gated unit: a GRU whose reset and update gates are one."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells._static import exported
from seqcells.cells._gated import GatedCell, Gates


@exported
class MGUParams(NamedTuple):
    """Parameters of `MGU`; gates in the order f|n along the last axis."""

    w_ih: jax.Array  # [D, 2H], W_f|W_n
    w_hh: jax.Array  # [H, 2H], U_f|U_n
    b_ih: jax.Array | None  # [2H], b_f|b_n; None if bias="none"
    b_hh: jax.Array | None  # [2H], c_f|c_n; [H], c_n, if bias="candidate"; or None


@dataclasses.dataclass(frozen=True, repr=False)
class MGU(GatedCell):
    """Minimal gated unit (Zhou et al. 2016).

    One gate resets and writes; f is the fraction that is written, as in the paper::

        f_t = sigmoid(W_f x_t + b_f + U_f h_{t-1} + c_f)       forget gate
        n_t = tanh(W_n x_t + b_n + U_n (f_t * h_{t-1}) + c_n)  reset_after=False (the paper's)
        n_t = tanh(W_n x_t + b_n + f_t * (U_n h_{t-1} + c_n))  reset_after=True
        h_t = (1 - f_t) * h_{t-1} + f_t * n_t

    Flax's MGUCell also resets after the product, but its f is the fraction that is kept: a
    different function, whatever the weights.

    Args:
        hidden_size: H, at least 1.
        reset_after: whether f scales the product; if False, f scales the carry before the product.
        bias: "double" (b and c), "single" (b alone), "candidate" (b and c_n) or "none".
        w_ih_init: initialiser of w_ih, called per gate on float[D, H]; or a tuple (f, n) of them.
        w_hh_init: initialiser of w_hh, called per gate on float[H, H]; or a tuple (f, n).
        b_ih_init: initialiser of b_ih, called per gate on float[H]; or a tuple (f, n).
        b_hh_init: initialiser of b_hh, called per gate on float[H]; or a tuple (f, n).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1 or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.MGU(64, bias="single").init(jax.random.key(0), input_size=1))
    8448
    """

    GATES: ClassVar[tuple[str, ...]] = ("f", "n")
    RECURRENT_WEIGHTS = ("w_hh", "b_hh")
    UNIT_WEIGHTS = ("w_ih", "b_ih")
    PARAMS: ClassVar[type] = MGUParams

    _: dataclasses.KW_ONLY
    reset_after: bool = False
    bias: str = "single"

    def reset_and_write(self, sums: Gates) -> tuple[jax.Array, jax.Array]:
        """Compute f, which is both gates, elementwise."""
        f = jax.nn.sigmoid(sums[0])
        return f, f
