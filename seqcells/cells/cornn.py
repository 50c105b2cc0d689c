"""coRNN: coupled, damped and driven oscillators."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine
from seqcells._static import exported
from seqcells.cells._dense import DenseCell
from seqcells.initializers import GateInitializers


@exported
class CoRNNParams(NamedTuple):
    """Parameters of `coRNN`."""

    w_ih: jax.Array  # [D, H], V
    w_hh: jax.Array  # [H, H], W, of y
    w_zh: jax.Array  # [H, H], the other W, of z
    b: jax.Array  # [H]


@exported
class CoRNNCarry(NamedTuple):
    """The memory of `coRNN`."""

    y: jax.Array  # [*B, H], position; also the output
    z: jax.Array  # [*B, H], velocity


@dataclasses.dataclass(frozen=True, repr=False)
class coRNN(DenseCell):  # the paper's name
    """Coupled oscillatory RNN (Rusch & Mishra 2021).

    Positions y and velocities z of H oscillators; y takes the new z::

        z_t = z_{t-1} + dt * (tanh(W y_{t-1} + W_z z_{t-1} + V x_t + b)
                              - gamma y_{t-1} - epsilon z_{t-1})
        y_t = y_{t-1} + dt * z_t

    The authors' code (github.com/tk-rusch/coRNN) has one matrix for the three products. The
    defaults are those of its experiments on sequential MNIST.

    Args:
        hidden_size: H, at least 1.
        dt: the length of a step, above 0.
        gamma: stiffness, above 0: the square of the frequency.
        epsilon: damping, at least 0.
        w_ih_init: initialiser of w_ih float[D, H].
        w_hh_init: initialiser of w_hh float[H, H], and of w_zh.
        b_init: initialiser of b float[H].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, or a dt, gamma or epsilon out of range.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.coRNN(4).init(jax.random.key(0), input_size=2))
    44
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)
    CARRY: ClassVar[type] = CoRNNCarry

    _: dataclasses.KW_ONLY
    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7
    b_init: GateInitializers = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.positive("dt", self.dt)
        _check.positive("gamma", self.gamma)
        _check.nonnegative("epsilon", self.epsilon)

    def init(self, key: jax.Array, input_size: int) -> CoRNNParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        w_ih, w_hh, k_rest = self._matrices(key, input_size)
        k_zh, k_b = jax.random.split(k_rest)
        size = self.hidden_size
        w_zh = self._draw("w_hh_init", k_zh, (size, size))
        return CoRNNParams(w_ih, w_hh, w_zh, self._draw("b_init", k_b, (size,)))

    def project(self, params: CoRNNParams, x: jax.Array) -> jax.Array:
        """Compute V x + b. x: float[*B, D]. Returns float[*B, H]."""
        return affine(x, params.w_ih, params.b, self.compute_dtype(x))

    def mix(self, params: CoRNNParams, carry: CoRNNCarry) -> jax.Array:
        """Compute W y + W_z z in the dtype of the carry."""
        both = jnp.concatenate(carry, axis=-1)
        w = jnp.concatenate([params.w_hh, params.w_zh])
        return affine(both, w, None, both.dtype)

    def gate(self, carry: CoRNNCarry, drive: jax.Array, mixed: jax.Array) -> CoRNNCarry:
        """Compute y_t and z_t, elementwise."""
        y, z = carry
        z = z + self.dt * (jnp.tanh(drive + mixed) - self.gamma * y - self.epsilon * z)
        return CoRNNCarry(y + self.dt * z, z)
