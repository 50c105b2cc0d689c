"""The selective state-space model of Mamba, without the block around it."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine, wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells._types import Shape
from seqcells.cells._ssm import SteppedCell, inverse_softplus


@exported
class MambaParams(NamedTuple):
    """Parameters of `Mamba`."""

    w_ih: jax.Array  # [H, R + 2N], the time step before w_dt|B|C
    w_dt: jax.Array  # [R, H]
    b_dt: jax.Array  # [H]
    a_log: jax.Array  # [H, N], A = -exp(a_log)
    d: jax.Array  # [H], the skip


class MambaDrive(NamedTuple):
    """What `Mamba` computes of a step's input."""

    step: jax.Array  # [*B, H], the time step, above 0
    b: jax.Array  # [*B, N]
    c: jax.Array  # [*B, N]
    x: jax.Array  # [*B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class Mamba(SteppedCell):
    """Selective state-space model, S6, of Mamba (Gu & Dao 2024).

    Each feature of the input has a memory of N numbers, which all features write and read by B_t
    and C_t, for a time step of its own::

        s_t|B_t|C_t = W x_t                                             of sizes R|N|N
        step_t = softplus(W_dt s_t + b_dt)
        h_t = exp(step_t A) * h_{t-1} + step_t B_t x_t                  A = -exp(a_log)
        y_t = C_t h_t + d * x_t

    As in the authors' code, which differs from the paper's equations, x_t is weighed by step_t B_t,
    and not by zero-order hold. This is the recurrence alone: the layer's convolution before it, its
    gate y_t * silu(z_t) after it, and both products around them belong to the layer. Inputs must
    have hidden_size features.

    Args:
        hidden_size: H, and the number of features, at least 1.
        state_size: N, numbers that the memory holds of a feature, at least 1.
        rank: R, of the product that makes the time steps, at least 1; H / 16, rounded up, if None.
        step_min: the least time step at the start, above 0.
        step_max: the largest; at least step_min. Their logarithms are drawn uniformly.
        w_ih_init: initialiser of w_ih float[H, R + 2N].
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, steps out of range, or inputs of another size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.Mamba(4, state_size=8).init(jax.random.key(0), input_size=4))
    112
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)
    UNIT_WEIGHTS = ("a_log",)

    _: dataclasses.KW_ONLY
    state_size: int = 16
    rank: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.size("state_size", self.state_size, least=1)
        if self.rank is not None:
            _check.size("rank", self.rank, least=1)

    def init(self, key: jax.Array, input_size: int) -> MambaParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features, which is H.

        As in the authors' code, A starts as -1, -2, ..., -N for each feature (S4D-Real), and d
        as 1.
        """
        self._check_width(self._sizes(key, input_size)[0])
        k_ih, k_dt, k_step = jax.random.split(key, 3)
        size, states, dtype = self.hidden_size, self.state_size, wide(self.param_dtype)
        rank = self.rank or math.ceil(size / 16)
        steps = jnp.exp(self._draw_steps(k_step))
        logs = jnp.log(jnp.arange(1, states + 1, dtype=dtype))
        return MambaParams(
            self._draw("w_ih_init", k_ih, (size, rank + 2 * states)),
            initializers.Uniform(-(rank**-0.5), rank**-0.5)(k_dt, (rank, size), self.param_dtype),
            inverse_softplus(steps).astype(self.param_dtype),
            jnp.broadcast_to(logs, (size, states)).astype(self.param_dtype),
            jnp.ones(size, self.param_dtype),
        )

    def _carry_shapes(self, input_size: int) -> tuple[Shape, ...]:
        return ((self.hidden_size, self.state_size),)

    def project(self, params: MambaParams, x: jax.Array) -> MambaDrive:
        """Compute the time step, B and C, and return them with x. x: float[*B, H]."""
        dtype = self.compute_dtype(x)
        parts = affine(x, params.w_ih, None, dtype)
        rank = params.w_dt.shape[0]
        s, b, c = jnp.split(parts, [rank, rank + self.state_size], axis=-1)
        step = jax.nn.softplus(affine(s, params.w_dt, params.b_dt, dtype))
        return MambaDrive(step, b, c, x.astype(step.dtype))

    def coefficients(
        self, params: MambaParams, drive: MambaDrive, fresh: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Compute exp(step_t A) and step_t B_t x_t, float[*B, H, N]."""
        step = drive.step[..., None]
        rate = -jnp.exp(params.a_log.astype(step.dtype))
        written = (drive.step * drive.x)[..., None] * drive.b[..., None, :]
        return jnp.exp(step * as_rows(rate, step)), written

    def read(self, params: MambaParams, carry: jax.Array, drive: MambaDrive) -> jax.Array:
        """Compute C_t h_t + d * x_t, float[*B, H], in the dtype of computation."""
        y = jnp.einsum("...hn,...n->...h", carry, drive.c)
        return super().read(params, y + as_rows(params.d.astype(y.dtype), y) * drive.x, drive)
