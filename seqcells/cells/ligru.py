"""The light GRU: no reset gate, and ReLU in place of tanh."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from seqcells._static import exported
from seqcells.cells._dense import ACTIVATIONS, BiasedCell, Gates, check_activation


@exported
class LiGRUParams(NamedTuple):
    """Parameters of `LiGRU`; gates in the order z|n along the last axis."""

    w_ih: jax.Array  # [D, 2H], W_z|W_n
    w_hh: jax.Array  # [H, 2H], U_z|U_n
    b: jax.Array | None  # [2H], b_z|b_n; None if bias="none"


@dataclasses.dataclass(frozen=True, repr=False)
class LiGRU(BiasedCell):
    """Light gated recurrent unit (Ravanelli et al. 2018): a GRU without reset gate, with ReLU.

    z is the fraction that is WRITTEN; in the paper it is the fraction that is kept::

        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
        n_t = relu(W_n x_t + U_n h_{t-1} + b_n)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    The paper normalises W x over the batch, which keeps ReLU from growing. There is no batch norm
    here: a row's output would depend on the other rows and on their padding. The statistics of a
    batch norm that was trained can be folded into W and b, as `interop.speechbrain` does.

    Args:
        hidden_size: H, at least 1.
        activation: "relu", "tanh", "sigmoid" or "identity".
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (z, n) of them.
        w_hh_init: initialiser of w_hh, called on float[H, H] a gate; or a tuple (z, n).
        b_init: initialiser of b, called on float[H] a gate; or a tuple (z, n).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown activation or bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.LiGRU(4).init(jax.random.key(0), input_size=2))
    56
    """

    GATES: ClassVar[tuple[str, ...]] = ("z", "n")
    INPUT_WEIGHTS = ("w_ih", "b")
    RECURRENT_WEIGHTS = ("w_hh", None)
    PARAMS: ClassVar[type] = LiGRUParams

    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation)

    def gate(self, carry: jax.Array, drive: Gates, mixed: Gates) -> jax.Array:
        """Compute h_t, elementwise."""
        z, n = (d + m for d, m in zip(drive, mixed, strict=True))
        z = jax.nn.sigmoid(z)
        return (1 - z) * carry + z * ACTIVATIONS[self.activation](n)

    def gates(
        self, params: LiGRUParams, carry: jax.Array, drive: Gates, mixed: Gates | None = None
    ) -> dict[str, jax.Array]:
        """Compute z."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        return {"z": jax.nn.sigmoid(drive[0] + mixed[0])}
