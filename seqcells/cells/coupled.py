"""The LSTM with coupled gates: it writes what it forgets."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import initializers
from seqcells._static import exported
from seqcells.cells._dense import BiasedCell, Gates
from seqcells.cells.lstm import LSTMCarry
from seqcells.initializers import GateInitializers


@exported
class CoupledLSTMParams(NamedTuple):
    """Parameters of `CoupledLSTM`; gates in the order f|g|o along the last axis."""

    w_ih: jax.Array  # [D, 3H], W_f|W_g|W_o
    w_hh: jax.Array  # [H, 3H], U_f|U_g|U_o
    b: jax.Array | None  # [3H], b_f|b_g|b_o; None if bias="none"


@dataclasses.dataclass(frozen=True, repr=False)
class CoupledLSTM(BiasedCell):
    """LSTM with coupled input and forget gates, "CIFG" (Greff et al. 2017).

    The input gate of an LSTM is 1 - f here::

        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)      forget gate, the fraction that is KEPT
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)         candidate
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o)      output gate
        c_t = f_t * c_{t-1} + (1 - f_t) * g_t
        h_t = o_t * tanh(c_t)

    Greff et al. have peepholes, too. The bias of the forget gate starts at 1, as in `LSTM`.

    Args:
        hidden_size: H, at least 1.
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (f, g, o) of them.
        w_hh_init: initialiser of w_hh, called on float[H, H] a gate; or a tuple (f, g, o).
        b_init: initialiser of b, called on float[H] a gate; or a tuple (f, g, o).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1 or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.CoupledLSTM(64).init(jax.random.key(0), input_size=1))
    12672
    """

    GATES: ClassVar[tuple[str, ...]] = ("f", "g", "o")
    CARRY: ClassVar[type] = LSTMCarry
    INPUT_WEIGHTS = ("w_ih", "b")
    RECURRENT_WEIGHTS = ("w_hh", None)
    PARAMS: ClassVar[type] = CoupledLSTMParams

    _: dataclasses.KW_ONLY
    b_init: GateInitializers = (initializers.ones, initializers.zeros, initializers.zeros)

    def gate(self, carry: LSTMCarry, drive: Gates, mixed: Gates) -> LSTMCarry:
        """Compute h_t and c_t, elementwise."""
        f, g, o = (d + m for d, m in zip(drive, mixed, strict=True))
        f = jax.nn.sigmoid(f)
        c = f * carry.c + (1 - f) * jnp.tanh(g)
        return LSTMCarry(jax.nn.sigmoid(o) * jnp.tanh(c), c)

    def gates(
        self,
        params: CoupledLSTMParams,
        carry: LSTMCarry,
        drive: Gates,
        mixed: Gates | None = None,
    ) -> dict[str, jax.Array]:
        """Compute f and o."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        f, _, o = (jax.nn.sigmoid(d + m) for d, m in zip(drive, mixed, strict=True))
        return {"f": f, "o": o}
