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
from seqcells.cells._complex import ComplexCell, Drive, LRUCarry


@exported
class LRUParams(NamedTuple):
    """Parameters of `LRU`, all real."""

    w_ih: jax.Array  # [D, 2H], Re B|Im B
    w_ho: jax.Array  # [H, 2O], Re C|Im C
    nu_log: jax.Array  # [H], |lambda| = exp(-exp(nu_log))
    theta_log: jax.Array  # [H], the phase of lambda is exp(theta_log), radians per step
    gamma_log: jax.Array  # [H], exp(gamma_log) scales the input
    d: jax.Array | None = None  # [D], the skip; None if skip=False


@dataclasses.dataclass(frozen=True, repr=False)
class LRU(ComplexCell):
    """Linear recurrent unit (Orvieto et al. 2023).

    The memory is complex::

        lambda = exp(-exp(nu) + i exp(theta))        |lambda| < 1
        h_t = lambda * h_{t-1} + exp(gamma) * (B x_t)
        y_t = Re(C h_t) + d * x_t                    the last term if `skip`, as the paper has it

    Args:
        hidden_size: H, complex units, at least 1.
        output_size: O, features of y; if None, D with a skip and H without.
        skip: whether y has d * x_t, for which O must be D.
        r_min: lower end of the ring on which lambda is drawn, at least 0.
        r_max: upper end of the ring, above r_min and at most 1.
        max_phase: phases are drawn from [0, max_phase], radians per step.
        w_ih_init: initialiser of w_ih, called twice on float[D, H]; or a tuple (re, im).
        w_ho_init: initialiser of w_ho, called twice on float[H, O]; or a tuple (re, im).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, a ring that is empty or not within the unit disk, or a skip
            to outputs of another size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.LRU(4).init(jax.random.key(0), input_size=2))
    60
    """

    UNIT_WEIGHTS = ("w_ih", "nu_log", "theta_log", "gamma_log")

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
        width = self.output_size or (input_size if self.skip else size)
        squares = jax.random.uniform(
            k_ring, (size,), dtype, minval=self.r_min**2, maxval=self.r_max**2
        )
        tiny = jnp.finfo(dtype).eps
        nu = -0.5 * jnp.log(jnp.clip(squares, tiny, 1 - tiny))
        turn = jax.random.uniform(k_phase, (size,), dtype, minval=tiny, maxval=1.0)
        ring = (nu, self.max_phase * turn, jnp.sqrt(-jnp.expm1(-2 * nu)))
        return LRUParams(
            self._draw("w_ih_init", k_ih, shape),
            self._draw("w_ho_init", k_ho, (size, width)),
            *(jnp.log(a).astype(self.param_dtype) for a in ring),
        )._replace(d=self._draw_skip(jax.random.fold_in(key, 1), input_size, width))

    def project(self, params: LRUParams, x: jax.Array) -> Drive:
        """Compute exp(gamma) * (B x), and return it with x for the skip. x: float[*B, D]."""
        re, im = gates(affine(x, params.w_ih, None, self.compute_dtype(x)), 2)
        gamma = as_rows(jnp.exp(params.gamma_log.astype(re.dtype)), re)
        return self._drive(LRUCarry(gamma * re, gamma * im), x)

    def coefficients(
        self, params: LRUParams, drive: Drive, fresh: jax.Array | None
    ) -> tuple[LRUCarry, LRUCarry]:
        """Compute lambda, float[1..., H] twice, and return it with what is written."""
        written = drive[0]
        logs = (a.astype(written.re.dtype) for a in (params.nu_log, params.theta_log))
        nu, phase = (as_rows(jnp.exp(a), written.re) for a in logs)
        size = jnp.exp(-nu)
        return LRUCarry(size * jnp.cos(phase), size * jnp.sin(phase)), written
