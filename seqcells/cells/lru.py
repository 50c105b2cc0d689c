"""The linear recurrent unit: a complex diagonal recurrence, stored as pairs of real numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._linear import affine, gates, wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._complex import ComplexCell, LRUCarry


@exported
class LRUParams(NamedTuple):
    """Parameters of `LRU`, all real."""

    w_ih: jax.Array  # [D, 2H], Re B|Im B
    w_ho: jax.Array  # [H, 2O], Re C|Im C
    nu_log: jax.Array  # [H], |lambda| = exp(-exp(nu_log))
    theta_log: jax.Array  # [H], the phase of lambda is exp(theta_log), radians per step
    gamma_log: jax.Array  # [H], exp(gamma_log) scales the input


@dataclasses.dataclass(frozen=True, repr=False)
class LRU(ComplexCell):
    """Linear recurrent unit (Orvieto et al. 2023).

    The memory is complex::

        lambda = exp(-exp(nu) + i exp(theta))        |lambda| < 1
        h_t = lambda * h_{t-1} + exp(gamma) * (B x_t)
        y_t = Re(C h_t)

    The paper's layer also adds D * x_t to y_t; use a skip connection around the cell for that.

    Args:
        hidden_size: H, complex units, at least 1.
        output_size: O, features of y; H if None.
        r_min: lower end of the ring on which lambda is drawn, at least 0.
        r_max: upper end of the ring, above r_min and at most 1.
        max_phase: phases are drawn from [0, max_phase], radians per step.
        w_ih_init: initialiser of w_ih, called twice on float[D, H]; or a tuple (re, im).
        w_ho_init: initialiser of w_ho, called twice on float[H, O]; or a tuple (re, im).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, or a ring that is empty or not within the unit disk.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.LRU(4).init(jax.random.key(0), input_size=2))
    60
    """

    _: dataclasses.KW_ONLY
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("r_min", "r_max"):
            _check.number(name, getattr(self, name), "a number from 0 to 1", lambda r: 0 <= r <= 1)
        if not self.r_min < self.r_max:
            got = f"{self.r_min!r} and {self.r_max!r}"
            raise ValueError(f"r_min, r_max: expected r_min < r_max, got {got}")
        _check.number("max_phase", self.max_phase, "radians above 0", lambda phase: phase > 0)

    def init(self, key: jax.Array, input_size: int) -> LRUParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features.

        lambda is uniform on the ring, and gamma gives the carry the variance of B x for white
        inputs.
        """
        shape = self._sizes(key, input_size)
        k_ih, k_ho, k_ring, k_phase = jax.random.split(key, 4)
        size, dtype = self.hidden_size, wide(self.param_dtype)
        squares = jax.random.uniform(
            k_ring, (size,), dtype, minval=self.r_min**2, maxval=self.r_max**2
        )
        tiny = jnp.finfo(dtype).eps
        nu = -0.5 * jnp.log(jnp.clip(squares, tiny, 1 - tiny))
        turn = jax.random.uniform(k_phase, (size,), dtype, minval=tiny, maxval=1.0)
        ring = (nu, self.max_phase * turn, jnp.sqrt(-jnp.expm1(-2 * nu)))
        return LRUParams(
            self._draw("w_ih_init", k_ih, shape),
            self._draw("w_ho_init", k_ho, (size, self.output_size or size)),
            *(jnp.log(a).astype(self.param_dtype) for a in ring),
        )

    def project(self, params: LRUParams, x: jax.Array) -> LRUCarry:
        """Compute exp(gamma) * (B x). x: float[*B, D]."""
        re, im = gates(affine(x, params.w_ih, None, self.compute_dtype(x)), 2)
        gamma = as_rows(jnp.exp(params.gamma_log.astype(re.dtype)), re)
        return LRUCarry(gamma * re, gamma * im)

    def coefficients(
        self, params: LRUParams, drive: LRUCarry, fresh: jax.Array | None
    ) -> tuple[LRUCarry, LRUCarry]:
        """Compute lambda, float[1..., H] twice, and return it with the drive."""
        logs = (a.astype(drive.re.dtype) for a in (params.nu_log, params.theta_log))
        nu, phase = (as_rows(jnp.exp(a), drive.re) for a in logs)
        size = jnp.exp(-nu)
        return LRUCarry(size * jnp.cos(phase), size * jnp.sin(phase)), drive

    def read(self, params: LRUParams, carry: LRUCarry, drive: LRUCarry) -> jax.Array:
        """Compute Re(C h), float[*B, O], in the dtype of computation."""
        return super().read(params, self.output(params, carry), drive)
