"""S5: a complex diagonal state-space model of many inputs and outputs."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._linear import affine, gates, wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._complex import ComplexCell, Drive, LRUCarry
from seqcells.cells._ssm import SteppedCell


@exported
class S5Params(NamedTuple):
    """Parameters of `S5`, all real."""

    w_ih: jax.Array  # [D, 2H], Re B|Im B
    w_ho: jax.Array  # [H, 2O], Re C|Im C
    lambda_re: jax.Array  # [H], of the model in continuous time; below 0 for one that forgets
    lambda_im: jax.Array  # [H], radians a unit of time
    step_log: jax.Array  # [H], the time from one input to the next is exp(step_log)
    d: jax.Array | None  # [D], the skip; None if skip=False


@dataclasses.dataclass(frozen=True, repr=False)
class S5(ComplexCell, SteppedCell):
    """Simplified structured state-space layer (Smith, Warrington & Linderman 2023).

    The memory is complex, and every unit has a time step of its own::

        h_t = L * h_{t-1} + G * (B x_t)                 step = exp(step_log)
        y_t = Re(C h_t) + d * x_t
        L = exp(step lambda), G = (L - 1) / lambda                       "zoh", zero-order hold
        L = (1 + step lambda / 2) / (1 - step lambda / 2),
        G = step / (1 - step lambda / 2)                                 "bilinear"

    lambda starts as -1/2 + i pi n for unit n from 0 (S4D-Lin, Gu et al. 2022), the real parts of B
    and C as independent of the imaginary ones. The authors' code starts from the eigenvalues of the
    HiPPO-LegS matrix, which S4D-Lin approximates, with B and C in its eigenbasis; there a unit may
    also stand for a conjugate pair, for which their y counts 2 Re(C h). Nothing keeps Re lambda
    below 0, as by default in the authors' code. The paper's layer then has an activation and a
    gate.

    Args:
        hidden_size: H, complex units, at least 1.
        output_size: O, features of y; D if None.
        discretisation: "zoh" or "bilinear".
        skip: whether y has d * x_t, for which O must be D.
        step_min: the least time step at the start, above 0.
        step_max: the largest; at least step_min. Their logarithms are drawn uniformly.
        w_ih_init: initialiser of w_ih, called on float[D, H] twice; or a tuple (re, im).
        w_ho_init: initialiser of w_ho, called on float[H, O] twice; or a tuple (re, im).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, an unknown discretisation, steps out of range, or a skip to
            outputs of another size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.S5(4).init(jax.random.key(0), input_size=2))
    46
    """

    UNIT_WEIGHTS = ("w_ih", "lambda_re", "lambda_im", "step_log")

    _: dataclasses.KW_ONLY
    discretisation: str = "zoh"
    skip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.choice("discretisation", self.discretisation, ("zoh", "bilinear"))

    def init(self, key: jax.Array, input_size: int) -> S5Params:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        shape = self._sizes(key, input_size)
        width, size = self.output_size or input_size, self.hidden_size
        k_ih, k_ho, k_step, k_skip = jax.random.split(key, 4)
        phases = jnp.pi * jnp.arange(size, dtype=wide(self.param_dtype))
        return S5Params(
            self._draw("w_ih_init", k_ih, shape),
            self._draw("w_ho_init", k_ho, (size, width)),
            jnp.full(size, -0.5, self.param_dtype),
            phases.astype(self.param_dtype),
            self._draw_steps(k_step).astype(self.param_dtype),
            self._draw_skip(k_skip, input_size, width),
        )

    def discrete(self, params: S5Params, dtype: jnp.dtype) -> tuple[LRUCarry, LRUCarry]:
        """Compute L and G, float[H] twice each."""
        logs = (params.lambda_re, params.lambda_im, params.step_log)
        re, im, step_log = (a.astype(dtype) for a in logs)
        rate, step = jax.lax.complex(re, im), jnp.exp(step_log)
        step = jax.lax.complex(step, jnp.zeros_like(step))
        if self.discretisation == "zoh":
            keep, write = jnp.exp(step * rate), jnp.expm1(step * rate) / rate
        else:
            half = step * rate / 2
            keep, write = (1 + half) / (1 - half), step / (1 - half)
        return LRUCarry(keep.real, keep.imag), LRUCarry(write.real, write.imag)

    def project(self, params: S5Params, x: jax.Array) -> Drive:
        """Compute G * (B x), and return it with x for the skip. x: float[*B, D]."""
        drive = LRUCarry(*gates(affine(x, params.w_ih, None, self.compute_dtype(x)), 2))
        _, write = self.discrete(params, drive.re.dtype)
        write = jax.tree.map(as_rows, write, drive)
        return self._drive(self.times(write, drive), x)

    def coefficients(
        self, params: S5Params, drive: Drive, fresh: jax.Array | None
    ) -> tuple[LRUCarry, LRUCarry]:
        """Compute L, float[1..., H] twice, and return it with what is written."""
        written = drive[0]
        keep, _ = self.discrete(params, written.re.dtype)
        return jax.tree.map(as_rows, keep, written), written
