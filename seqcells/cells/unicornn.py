"""UnICORNN: undamped, independent oscillators with a time constant each."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._cell import SplitCell
from seqcells._linear import affine
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._dense import SizedCell
from seqcells.cells.cornn import CoRNNCarry
from seqcells.initializers import GateInitializers, Initializer


@exported
class UnICORNNParams(NamedTuple):
    """Parameters of `UnICORNN`."""

    w_ih: jax.Array  # [D, H], V
    w_hh: jax.Array  # [H], w
    b: jax.Array  # [H]
    c: jax.Array  # [H], of the time constants


@dataclasses.dataclass(frozen=True, repr=False)
class UnICORNN(SizedCell, SplitCell):
    """Undamped independent controlled oscillatory RNN (Rusch & Mishra 2021b).

    Positions y and velocities z of H oscillators that do not read each other; y takes the new z::

        z_t = z_{t-1} - dt * sigmoid(c) * (tanh(w * y_{t-1} + V x_t + b) + alpha y_{t-1})
        y_t = y_{t-1} + dt * sigmoid(c) * z_t

    A step preserves volume, so its Jacobian has determinant 1, whatever the weights. Stack a few,
    as the paper does, with a `Dense` or `Residual` between them: within one, units do not mix.

    Args:
        hidden_size: H, at least 1.
        dt: the length of a step, above 0.
        alpha: stiffness, at least 0.
        w_ih_init: initialiser of w_ih float[D, H].
        w_hh_init: initialiser of w_hh float[H], which holds w.
        b_init: initialiser of b float[H].
        c_init: initialiser of c float[H].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, or a dt or alpha out of range.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.UnICORNN(4).init(jax.random.key(0), input_size=2))
    20
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)
    CARRY: ClassVar[type] = CoRNNCarry
    UNIT_WEIGHTS = ("w_ih", "w_hh", "b", "c")

    _: dataclasses.KW_ONLY
    dt: float = 0.1
    alpha: float = 1.0
    w_hh_init: Initializer = initializers.Uniform(0.0, 1.0)
    b_init: GateInitializers = initializers.zeros
    c_init: GateInitializers = initializers.Uniform(-0.1, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive("dt", self.dt)
        _check.nonnegative("alpha", self.alpha)

    def init(self, key: jax.Array, input_size: int) -> UnICORNNParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        shape = self._sizes(key, input_size)
        k_ih, k_hh, k_b, k_c = jax.random.split(key, 4)
        width = (self.hidden_size,)
        return UnICORNNParams(
            self._draw("w_ih_init", k_ih, shape),
            self._draw("w_hh_init", k_hh, width),
            self._draw("b_init", k_b, width),
            self._draw("c_init", k_c, width),
        )

    def project(self, params: UnICORNNParams, x: jax.Array) -> jax.Array:
        """Compute V x + b. x: float[*B, D]. Returns float[*B, H]."""
        return affine(x, params.w_ih, params.b, self.compute_dtype(x))

    def mix(self, params: UnICORNNParams, carry: CoRNNCarry) -> tuple[jax.Array, jax.Array]:
        """Compute w * y, and dt * sigmoid(c) for every row, in the dtype of the carry."""
        y = carry.y
        step = self.dt * jax.nn.sigmoid(params.c.astype(y.dtype))
        product = as_rows(params.w_hh.astype(y.dtype), y) * y
        return product, jnp.broadcast_to(as_rows(step, y), y.shape)

    def gate(
        self, carry: CoRNNCarry, drive: jax.Array, mixed: tuple[jax.Array, jax.Array]
    ) -> CoRNNCarry:
        """Compute y_t and z_t, elementwise."""
        (y, z), (product, step) = carry, mixed
        z = z - step * (jnp.tanh(product + drive) + self.alpha * y)
        return CoRNNCarry(y + step * z, z)
