"""The minimal LSTM whose gates do not read the carry, so that its recurrence is linear."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._static import exported
from seqcells.cells._dense import Gates
from seqcells.cells._minimal import MinimalCell


@exported
class MinLSTMParams(NamedTuple):
    """Parameters of `MinLSTM`; gates in the order f|i|n along the last axis."""

    w_ih: jax.Array  # [D, 3H], W_f|W_i|W_n
    b: jax.Array | None  # [3H], b_f|b_i|b_n


@dataclasses.dataclass(frozen=True, repr=False)
class MinLSTM(MinimalCell):
    """minLSTM (Feng et al. 2024), linear in its carry.

    f is the fraction that is KEPT and i the fraction that is written; they sum to 1::

        f~_t = sigmoid(W_f x_t + b_f)
        i~_t = sigmoid(W_i x_t + b_i)
        f_t, i_t = f~_t / (f~_t + i~_t), i~_t / (f~_t + i~_t)
        n_t = act(W_n x_t + b_n)              "identity" is the paper's equation
        h_t = f_t * h_{t-1} + i_t * n_t

    The paper's code computes in logarithms, for which it takes an n that is positive: "positive" is
    its g, a + 1/2 for a >= 0, else sigmoid(a). Its parallel form also passes a given first carry
    through g; here a carry enters as it is.

    Args:
        hidden_size: H, at least 1.
        activation: "identity", "positive", "tanh", "relu" or "sigmoid".
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (f, i, n) of them.
        b_init: initialiser of b, called on float[H] a gate; or a tuple (f, i, n).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.MinLSTM(4).init(jax.random.key(0), input_size=2))
    36
    """

    GATES: ClassVar[tuple[str, ...]] = ("f", "i", "n")
    PARAMS: ClassVar[type] = MinLSTMParams
    UNIT_WEIGHTS = ("w_ih", "b")

    def gates(
        self, params: MinLSTMParams, carry: jax.Array, drive: Gates, mixed: None = None
    ) -> dict[str, jax.Array]:
        """Compute f and i, which read the input alone."""
        kept, written = _shares(*drive[:2])
        return {"f": kept, "i": written}

    def coefficients(
        self, params: MinLSTMParams, drive: Gates, fresh: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Compute f_t and i_t * n_t, elementwise."""
        kept, written = _shares(*drive[:2])
        return kept, written * self.act(drive[2])


def _shares(f: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute sigmoid(f) and sigmoid(i), divided by their sum.

    Where both gates are closed, the quotient would be 0 / 0. Both arguments are then raised alike,
    to where a sigmoid is an exponential to the last digit, so that the quotient stays the same.
    """
    least = math.log(jnp.finfo(f.dtype).eps)
    raised = jax.lax.stop_gradient(jnp.maximum(least - jnp.maximum(f, i), 0))
    f, i = jax.nn.sigmoid(f + raised), jax.nn.sigmoid(i + raised)
    share = 1 / (f + i)
    return f * share, i * share
