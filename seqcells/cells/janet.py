"""JANET: an LSTM that has its forget gate alone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._static import exported
from seqcells.cells._dense import BiasedCell, Gates
from seqcells.initializers import GateInitializers


@exported
class JANETParams(NamedTuple):
    """Parameters of `JANET`; gates in the order f|g along the last axis."""

    w_ih: jax.Array  # [D, 2H], W_f|W_g
    w_hh: jax.Array  # [H, 2H], U_f|U_g
    b: jax.Array | None  # [2H], b_f|b_g; None if bias="none"


@dataclasses.dataclass(frozen=True, repr=False)
class JANET(BiasedCell):
    """Just Another NETwork: an LSTM with a forget gate alone (van der Westhuizen & Lasenby 2018).

    f is the fraction that is KEPT, as in an LSTM::

        s_t = W_f x_t + U_f h_{t-1} + b_f
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)                     candidate
        h_t = sigmoid(s_t) * h_{t-1} + sigmoid(beta - s_t) * g_t    f_t = sigmoid(s_t)

    sigmoid(beta - s) is the paper's 1 - sigmoid(s - beta): for beta above 0 a unit writes more than
    it forgets. The authors' code (github.com/JosvanderWesthuizen/janet) has the candidate first,
    and two memories, which are equal after the first step. For sequences of T steps the paper
    draws b_f by `b_init=(initializers.Chrono(T, kept=True), initializers.zeros)`.

    Args:
        hidden_size: H, at least 1.
        beta: how much more is written than forgotten; the paper's is 1, and 0 couples both.
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (f, g) of them.
        w_hh_init: initialiser of w_hh, called on float[H, H] a gate; or a tuple (f, g).
        b_init: initialiser of b, called on float[H] a gate; or a tuple (f, g). The default starts
            the forget gate at 1, as `LSTM` does.
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a beta that is not finite, or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.JANET(64).init(jax.random.key(0), input_size=1))
    8448
    """

    GATES: ClassVar[tuple[str, ...]] = ("f", "g")
    INPUT_WEIGHTS = ("w_ih", "b")
    RECURRENT_WEIGHTS = ("w_hh", None)
    PARAMS: ClassVar[type] = JANETParams

    _: dataclasses.KW_ONLY
    beta: float = 1.0
    b_init: GateInitializers = (initializers.ones, initializers.zeros)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.finite("beta", self.beta)

    def gate(self, carry: jax.Array, drive: Gates, mixed: Gates) -> jax.Array:
        """Compute h_t, elementwise."""
        s, g = (d + m for d, m in zip(drive, mixed, strict=True))
        return jax.nn.sigmoid(s) * carry + jax.nn.sigmoid(self.beta - s) * jnp.tanh(g)

    def gates(
        self, params: JANETParams, carry: jax.Array, drive: Gates, mixed: Gates | None = None
    ) -> dict[str, jax.Array]:
        """Compute f."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        return {"f": jax.nn.sigmoid(drive[0] + mixed[0])}
