"""The minimal GRU: its gates do not read the carry, so its recurrence is linear."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells._static import exported
from seqcells.cells._dense import Gates
from seqcells.cells._minimal import MinimalCell


@exported
class MinGRUParams(NamedTuple):
    """Parameters of `MinGRU`; gates in the order z|n along the last axis."""

    w_ih: jax.Array  # [D, 2H], W_z|W_n
    b: jax.Array | None  # [2H], b_z|b_n


@dataclasses.dataclass(frozen=True, repr=False)
class MinGRU(MinimalCell):
    """minGRU (Feng et al. 2024), linear in its carry.

    z is the fraction that is written, as in the paper::

        z_t = sigmoid(W_z x_t + b_z)
        n_t = act(W_n x_t + b_n)              "identity" is the paper's equation
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    The paper's code computes in logarithms, which need a positive n: "positive" is its g, a + 1/2
    for a >= 0, else sigmoid(a). Logarithms are not needed here, because with 0 < 1 - z < 1 nothing
    can overflow.

    Args:
        hidden_size: H, at least 1.
        activation: "identity", "positive", "tanh", "relu" or "sigmoid".
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called per gate on float[D, H]; or a tuple (z, n) of them.
        b_init: initialiser of b, called per gate on float[H]; or a tuple (z, n).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.MinGRU(4).init(jax.random.key(0), input_size=2))
    24
    """

    GATES: ClassVar[tuple[str, ...]] = ("z", "n")
    PARAMS: ClassVar[type] = MinGRUParams
    UNIT_WEIGHTS = ("w_ih", "b")

    def gates(
        self, params: MinGRUParams, carry: jax.Array, drive: Gates, mixed: None = None
    ) -> dict[str, jax.Array]:
        """Compute z, which depends only on the input."""
        return {"z": jax.nn.sigmoid(drive[0])}

    def coefficients(
        self, params: MinGRUParams, drive: Gates, fresh: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Compute 1 - z_t and z_t * n_t, elementwise."""
        return jax.nn.sigmoid(-drive[0]), jax.nn.sigmoid(drive[0]) * self.act(drive[1])
