"""The RG-LRU of Griffin: a linear recurrence whose every unit decays by a gate of the input."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._cell import LinearCell
from seqcells._linear import affine_by_head, gates, wide
from seqcells._static import exported
from seqcells._trees import as_rows, select
from seqcells.cells._dense import Gates, SizedCell
from seqcells.initializers import GateInitializers


@exported
class RGLRUParams(NamedTuple):
    """Parameters of `RGLRU`; gates in the order r|i along the last axis, heads within each."""

    w_ih: jax.Array  # [H/heads, 2H], W_r|W_i: what a gate reads of its own head
    b: jax.Array  # [2H], b_r|b_i
    a_param: jax.Array  # [H], exp(-softplus(a_param)) is the paper's a


@dataclasses.dataclass(frozen=True, repr=False)
class RGLRU(SizedCell, LinearCell):
    """Real-gated linear recurrent unit (De et al. 2024, Griffin).

    A unit scales its own feature of the input, so inputs must have hidden_size features::

        r_t = sigmoid(W_r x_t + b_r)                                recurrence gate
        i_t = sigmoid(W_i x_t + b_i)                                input gate
        a_t = exp(-8 r_t * softplus(a_param))                       the share that is KEPT
        h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * i_t * x_t

    At a reset i_t * x_t is written whole, without the square root. The authors' code resets at the
    first position of every sequence (segment_pos == 0): for the same numbers pass `resets` there
    too. The gates of a unit read its own head. The slope of the square root is at most 1000, as in
    the authors' code: where a_t rounds to 1, its gradient would not be finite.

    Args:
        hidden_size: H, and the number of features, at least 1.
        heads: how many groups of units there are; a divisor of H.
        a_min: lower end of what r_t = 1 keeps, above 0.
        a_max: upper end, at least a_min and below 1. At the start exp(-8 softplus(a_param)) is
            uniform between the two, as the paper has it; the authors' code draws its 8th root so.
        w_ih_init: initialiser of w_ih, called on float[H/heads, H/heads] a gate and head; or a
            tuple (r, i) of them.
        b_init: initialiser of b, called on float[H] a gate; or a tuple (r, i).
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, heads that do not divide it, ends out of range, or inputs of
            another size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.RGLRU(64, heads=4).init(jax.random.key(0), input_size=64))
    2240
    """

    GATES: ClassVar[tuple[str, ...]] = ("r", "i")
    UNIT_WEIGHTS = ("w_ih", "b", "a_param")

    _: dataclasses.KW_ONLY
    heads: int = 1
    a_min: float = 0.9
    a_max: float = 0.999
    b_init: GateInitializers = initializers.zeros

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.divisor("heads", self.heads, self.hidden_size, "hidden_size")
        _check.number("a_min", self.a_min, "a number between 0 and 1", lambda a: 0 < a < 1)
        least = f"a number from a_min = {self.a_min} to below 1"
        _check.number("a_max", self.a_max, least, lambda a: self.a_min <= a < 1)

    def init(self, key: jax.Array, input_size: int) -> RGLRUParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features, which is H."""
        self._check_width(self._sizes(key, input_size)[0])
        k_ih, k_b, k_a = jax.random.split(key, 3)
        shape, dtype = (self.hidden_size,), wide(self.param_dtype)
        kept = jax.random.uniform(k_a, shape, dtype, minval=self.a_min, maxval=self.a_max)
        a_param = jnp.log(jnp.expm1(-jnp.log(kept) / 8))
        return RGLRUParams(
            self._draw_by_head("w_ih_init", k_ih, self.heads),
            self._draw("b_init", k_b, shape),
            a_param.astype(self.param_dtype),
        )

    def project(self, params: RGLRUParams, x: jax.Array) -> Gates:
        """Compute the sums of r and i, and return them with x. x: float[*B, H]."""
        dtype = self.compute_dtype(x)
        sums = affine_by_head(x, params.w_ih, params.b, self.heads, dtype)
        return *gates(sums, 2), x.astype(sums.dtype)

    def gates(
        self, params: RGLRUParams, carry: jax.Array, drive: Gates, mixed: None = None
    ) -> dict[str, jax.Array]:
        """Compute r and i, which read the input alone."""
        return dict(zip(self.GATES, map(jax.nn.sigmoid, drive[:2]), strict=True))

    def coefficients(
        self, params: RGLRUParams, drive: Gates, fresh: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Compute a_t, and what is written: more where a sequence starts by a reset."""
        r, i, x = drive
        decay = jax.nn.softplus(params.a_param.astype(r.dtype))
        log_a = -8 * jax.nn.sigmoid(r) * as_rows(decay, r)
        share = _sqrt(-jnp.expm1(2 * log_a))
        if fresh is not None:
            share = select(fresh, jnp.ones_like(share), share)
        return jnp.exp(log_a), share * jax.nn.sigmoid(i) * x


@jax.custom_jvp
def _sqrt(u: jax.Array) -> jax.Array:
    """Compute a square root whose slope is at most 1000."""
    return jnp.sqrt(u)


@_sqrt.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (u,), (change,) = primals, tangents
    return jnp.sqrt(u), change / (2 * jnp.sqrt(jnp.maximum(u, 2.5e-7)))
