"""LEM: long expressive memory, two memories with a time step each."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._linear import affine, gates
from seqcells._static import exported
from seqcells.cells._dense import Gates, MatrixCell, OneBiasCell


@exported
class LEMParams(NamedTuple):
    """Parameters of `LEM`; gates in the order s_z|s_y|z|y along the last axis."""

    w_ih: jax.Array  # [D, 4H], V_1|V_2|V_z|V_y
    w_hh: jax.Array  # [H, 4H], W_1|W_2|W_z|W_y; W_y multiplies the new z, the others y
    b: jax.Array | None  # [4H], b_1|b_2|b_z|b_y; None if bias="none"


@exported
class LEMCarry(NamedTuple):
    """The memory of `LEM`."""

    y: jax.Array  # [*B, H], also the output
    z: jax.Array  # [*B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class LEM(OneBiasCell, MatrixCell):
    """Long expressive memory (Rusch et al. 2022), two memories with a time step for each unit.

    s_z and s_y are the fractions of dt that a unit takes as its time step, and what it WRITES; y
    takes the new z::

        s_z = sigmoid(V_1 x_t + W_1 y_{t-1} + b_1)      dt * s_z is the paper's Delta t
        s_y = sigmoid(V_2 x_t + W_2 y_{t-1} + b_2)      dt * s_y is its Delta t with a bar
        z_t = (1 - dt * s_z) * z_{t-1} + dt * s_z * tanh(V_z x_t + W_z y_{t-1} + b_z)
        y_t = (1 - dt * s_y) * y_{t-1} + dt * s_y * tanh(V_y x_t + W_y z_t + b_y)

    W_y waits for z_t, so no engine of a `SplitCell` runs the cell. The authors' code
    (github.com/tk-rusch/LEM) has the blocks in the order 2|1|y|z for x and 2|1|z for y, and two
    biases, whose sum is b; it draws all weights from U(-1/sqrt(H), 1/sqrt(H)).

    Args:
        hidden_size: H, at least 1; the units of y and those of z.
        dt: the longest time step, above 0; up to 1, a step is a weighted mean.
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (s_z, s_y, z, y).
        w_hh_init: initialiser of w_hh, called on float[H, H] a gate; or a tuple (s_z, s_y, z, y).
        b_init: initialiser of b, called on float[H] a gate; or a tuple (s_z, s_y, z, y).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a dt that is not above 0, or an unknown bias.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.LEM(4).init(jax.random.key(0), input_size=2))
    112
    """

    GATES: ClassVar[tuple[str, ...]] = ("s_z", "s_y", "z", "y")
    CARRY: ClassVar[type] = LEMCarry

    _: dataclasses.KW_ONLY
    dt: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive("dt", self.dt)

    def init(self, key: jax.Array, input_size: int) -> LEMParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_b = self._matrices(key, input_size)
        return LEMParams(w_ih, w_hh, self._bias(k_b))

    def project(self, params: LEMParams, x: jax.Array) -> Gates:
        """Compute V x + b, gate by gate. x: float[*B, D]."""
        return gates(affine(x, params.w_ih, params.b, self.compute_dtype(x)), 4)

    def why_not_split(self) -> str:
        """Return why the cell cannot be split."""
        return "its second product reads the new z"

    def recur(self, params: LEMParams, carry: LEMCarry, drive: Gates) -> LEMCarry:
        """Compute y_t and z_t."""
        y, z = carry
        s_z, s_y, g = self._sums(params, carry, drive)
        s_z, s_y = self.dt * jax.nn.sigmoid(s_z), self.dt * jax.nn.sigmoid(s_y)
        z = (1 - s_z) * z + s_z * jnp.tanh(g)
        w_y = params.w_hh[:, -self.hidden_size :]
        y = (1 - s_y) * y + s_y * jnp.tanh(drive[-1] + affine(z, w_y, None, z.dtype))
        return LEMCarry(y, z)

    def gates(
        self, params: LEMParams, carry: LEMCarry, drive: Gates, mixed: Gates | None = None
    ) -> dict[str, jax.Array]:
        """Compute s_z and s_y."""
        s_z, s_y, _ = self._sums(params, carry, drive)
        return {"s_z": jax.nn.sigmoid(s_z), "s_y": jax.nn.sigmoid(s_y)}

    def _sums(self, params: LEMParams, carry: LEMCarry, drive: Gates) -> Gates:
        """Compute V x + W y + b of s_z, s_y and z: one product for the three."""
        w = params.w_hh[:, : -self.hidden_size]
        mixed = gates(affine(carry.y, w, None, carry.y.dtype), 3)
        return tuple(d + m for d, m in zip(drive[:3], mixed, strict=True))
