"""sLSTM: exponential gates, a normaliser, and heads that do not read each other."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._linear import affine_by_head, gates, wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._dense import BiasedCell, Gates
from seqcells.initializers import GateInitializers


@exported
class SLSTMParams(NamedTuple):
    """Parameters of `SLSTM`; gates in the order i|f|z|o along the last axis, heads within each."""

    w_ih: jax.Array | None  # [D, 4H], W_i|W_f|W_z|W_o; None if projected
    w_hh: jax.Array  # [H/heads, 4H], R_i|R_f|R_z|R_o: what a unit reads of its own head
    b: jax.Array | None  # [4H], b_i|b_f|b_z|b_o; None if bias="none"


@exported
class SLSTMCarry(NamedTuple):
    """The memory of `SLSTM`."""

    h: jax.Array  # [*B, H], also the output
    c: jax.Array  # [*B, H], the cell
    n: jax.Array  # [*B, H], the normaliser; 0 before the first step
    m: jax.Array  # [*B, H], the stabiliser, a logarithm


@dataclasses.dataclass(frozen=True, repr=False)
class SLSTM(BiasedCell):
    """sLSTM, the scalar LSTM of xLSTM (Beck et al. 2024).

    The input gate is an exponential, and the cell is a weighted mean of the candidates::

        i, f, z, o = W x_t + R h_{t-1} + b       R reads the units of its own head
        l_t = log(sigmoid(f)) + m_{t-1}
        m_t = max(i, l_t);  i where n_{t-1} = 0, in the first step
        c_t = exp(l_t - m_t) c_{t-1} + exp(i - m_t) tanh(z)
        n_t = exp(l_t - m_t) n_{t-1} + exp(i - m_t), at least 1
        h_t = sigmoid(o) * c_t / n_t

    m changes no output: it keeps the exponentials from overflowing. The authors' code (flashrnn
    1.0.8) decides n = 0 for the whole batch and all heads at once, so there a fresh row beside one
    that goes on has another output than by itself. Here each unit decides. The block around the
    cell, with its norm and its convolution, is not part of it.

    Args:
        hidden_size: H, at least 1.
        heads: blocks of units that read each other; a divisor of H.
        projected: whether inputs are W x_t already, 4H features in the order i|f|z|o; there is then
            no w_ih. In the authors' block, i and f read a convolution of what z and o read.
        bias: "single" (b) or "none".
        w_ih_init: initialiser of w_ih, called on float[D, H] a gate; or a tuple (i, f, z, o).
        w_hh_init: initialiser of w_hh, called on float[H/heads, H/heads] a gate and head; or a
            tuple (i, f, z, o).
        b_init: initialiser of b, called on float[H] a gate; or a tuple (i, f, z, o). The default
            starts the forget gate at 1, as `LSTM` does.
        dtype: dtype of computation; None means the input's. The carry is at least float32.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, heads that do not divide it, an unknown bias, or projected
            inputs of another size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.SLSTM(64, heads=4).init(jax.random.key(0), input_size=1))
    4608
    """

    GATES: ClassVar[tuple[str, ...]] = ("i", "f", "z", "o")
    CARRY: ClassVar[type] = SLSTMCarry
    PARAMS: ClassVar[type] = SLSTMParams

    _: dataclasses.KW_ONLY
    heads: int = 1
    projected: bool = False
    b_init: GateInitializers = (
        initializers.zeros,
        initializers.ones,
        initializers.zeros,
        initializers.zeros,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.divisor("heads", self.heads, self.hidden_size, "hidden_size")
        _check.flag("projected", self.projected)

    def init(self, key: jax.Array, input_size: int) -> SLSTMParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        if self.projected and input_size != 4 * self.hidden_size:
            got = f"{input_size} for {self}"
            raise ValueError(f"input_size: expected 4 * hidden_size, i|f|z|o, got {got}")
        params = super().init(key, 0 if self.projected else input_size)
        if self.projected:
            params = params._replace(w_ih=None)
        if self.heads == 1:
            return params
        key = jax.random.fold_in(key, 1)
        return params._replace(w_hh=self._draw_by_head("w_hh_init", key, self.heads))

    def project(self, params: SLSTMParams, x: jax.Array) -> Gates:
        """Compute W x + b, gate by gate; x + b if projected. x: float[*B, D]."""
        if params.w_ih is not None:
            return super().project(params, x)
        sums = x.astype(wide(self.compute_dtype(x)))
        if params.b is not None:
            sums += as_rows(params.b.astype(sums.dtype), sums)
        return gates(sums, 4)

    def mix(self, params: SLSTMParams, carry: SLSTMCarry) -> Gates:
        """Compute R h in the dtype of the carry, gate by gate."""
        h = carry.h
        return gates(affine_by_head(h, params.w_hh, None, self.heads, h.dtype), 4)

    def gate(self, carry: SLSTMCarry, drive: Gates, mixed: Gates) -> SLSTMCarry:
        """Compute h_t, c_t, n_t and m_t, elementwise."""
        i, f, z, o = (d + m for d, m in zip(drive, mixed, strict=True))
        kept = jax.nn.log_sigmoid(f) + carry.m
        m = jnp.where(carry.n == 0, i, jnp.maximum(i, kept))
        forget, write = jnp.exp(jnp.minimum(kept - m, 0)), jnp.exp(i - m)
        c = forget * carry.c + write * jnp.tanh(z)
        n = forget * carry.n + write
        n = jnp.where(n < 1, 1, n)
        return SLSTMCarry(jax.nn.sigmoid(o) * c / n, c, n, m)

    def gates(
        self, params: SLSTMParams, carry: SLSTMCarry, drive: Gates, mixed: Gates | None = None
    ) -> dict[str, jax.Array]:
        """Compute f and o; i is no number from 0 to 1."""
        mixed = self.mix(params, carry) if mixed is None else mixed
        _, f, _, o = (jax.nn.sigmoid(d + m) for d, m in zip(drive, mixed, strict=True))
        return {"f": f, "o": o}
