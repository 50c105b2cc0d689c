"""mLSTM: a matrix memory with exponential gates and a normaliser."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._flags import Flags
from seqcells._linear import affine, of_all_gates
from seqcells._static import exported
from seqcells._types import Shape
from seqcells.cells._chunk import look, stabilise, write_and_read
from seqcells.cells._matrix import MatrixMemory, heads_first, outer, recall
from seqcells.initializers import GateInitializers


@exported
class MLSTMParams(NamedTuple):
    """Parameters of `MLSTM`; heads within each block of columns."""

    w_ih: jax.Array  # [D, heads * (2K + V + 2)], W_q|W_k|W_v|W_i|W_f; W_i|W_f alone if projected
    b: jax.Array  # [2 * heads], b_i|b_f


@exported
class MLSTMCarry(NamedTuple):
    """The memory of `MLSTM`."""

    c: jax.Array  # [*B, heads, K, V], the matrices
    n: jax.Array  # [*B, heads, K], the normaliser
    m: jax.Array  # [*B, heads], the stabiliser, a logarithm; 0 before the first step


class MLSTMDrive(NamedTuple):
    """What `MLSTM` computes of a step's input."""

    q: jax.Array  # [*B, heads, K], divided by sqrt(K)
    k: jax.Array  # [*B, heads, K]
    v: jax.Array  # [*B, heads, V]
    i: jax.Array  # [*B, heads], before the exponential
    f: jax.Array  # [*B, heads], before the sigmoid


@dataclasses.dataclass(frozen=True, repr=False)
class MLSTM(MatrixMemory):
    """mLSTM, the matrix LSTM of xLSTM (Beck et al. 2024, arXiv 2405.04517).

    Each head stores values by keys in a matrix of its own, and a query reads it::

        q|k|v|i|f = W x_t, the gates + b           of sizes K|K|V|1|1 for each head
        l_t = log(sigmoid(f)) + m_{t-1}
        m_t = max(i, l_t)
        C_t = exp(l_t - m_t) C_{t-1} + exp(i - m_t) k v'
        n_t = exp(l_t - m_t) n_{t-1} + exp(i - m_t) k
        h_t = C_t' q / (max(|n_t q|, exp(-m_t)) + eps)                     q divided by sqrt(K)

    m keeps the exponentials from overflowing, and changes h_t by eps alone. The paper divides k by
    sqrt(K), which gives the same h_t, and has no eps; both are those of the authors' code
    (mlstm-kernels 2.0.6), where m starts at 0 as here. This is the memory alone: the output gate,
    the norm of each head and the convolution belong to the layer around it.

    Args:
        hidden_size: heads * V, the size of the output, at least 1.
        heads: how many matrices there are; a divisor of hidden_size.
        key_size: K, at least 1; V if None.
        projected: whether inputs are q|k|v already, heads * (2K + V) features, which w_ih maps to
            the gates i and f alone. In the authors' layers q and k read other features than v.
        eps: what is added to the denominator, at least 0.
        w_ih_init: initialiser of w_ih.
        b_init: initialiser of b, called on float[heads] a gate; or a tuple (i, f). The default
            draws b_f between 3 and 6, where the authors' space them evenly.
        dtype: dtype of computation; that of the input if None. The carry is in float32 when this is
            narrower.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, heads that do not divide hidden_size, eps below 0, or
            projected inputs of another size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.MLSTM(8, heads=2, key_size=3).init(jax.random.key(0), input_size=5))
    124
    """

    GATES: ClassVar[tuple[str, ...]] = ("i", "f")
    CARRY: ClassVar[type] = MLSTMCarry

    _: dataclasses.KW_ONLY
    projected: bool = False
    eps: float = 1e-6
    b_init: GateInitializers = (initializers.Normal(0.1), initializers.Uniform(3.0, 6.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.flag("projected", self.projected)
        _check.nonnegative("eps", self.eps)

    def init(self, key: jax.Array, input_size: int) -> MLSTMParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        rows, _ = self._sizes(key, input_size)
        k_ih, k_b = jax.random.split(key)
        b = self._draw("b_init", k_b, (self.heads,))
        if not self.projected:
            return MLSTMParams(self._weights(k_ih, rows, gates=2), b)
        width = self.heads * (2 * self.matrix[0] + self.matrix[1])
        if rows != width:
            got = f"{rows} for {self}"
            raise ValueError(f"input_size: expected heads * (2K + V) = {width}, q|k|v, got {got}")
        shape, init = (rows, 2 * self.heads), self.w_ih_init
        w_ih = initializers.per_gate("w_ih_init", init, k_ih, shape, 1, self.param_dtype)
        return MLSTMParams(w_ih, b)

    def _carry_shapes(self, input_size: int) -> tuple[Shape, ...]:
        """Return the shapes of C, n and m."""
        heads, key, value = super()._carry_shapes(input_size)[0]
        return (heads, key, value), (heads, key), (heads,)

    def project(self, params: MLSTMParams, x: jax.Array) -> MLSTMDrive:
        """Compute q, k, v, i and f. x: float[*B, D]."""
        b = of_all_gates(params.b, params.w_ih.shape[-1])
        sums = affine(x, params.w_ih, b, self.compute_dtype(x))
        if self.projected:
            sums = jnp.concatenate([x.astype(sums.dtype), sums], axis=-1)
        (q, k, v), gates = self._cut(sums)
        return MLSTMDrive(q * self.matrix[0] ** -0.5, k, v, *gates)

    def recur(self, params: MLSTMParams, carry: MLSTMCarry, drive: MLSTMDrive) -> MLSTMCarry:
        """Compute C_t, n_t and m_t."""
        _, k, v, i, f = drive
        kept = jax.nn.log_sigmoid(f) + carry.m
        m = jnp.maximum(i, kept)
        forget, write = jnp.exp(kept - m)[..., None], jnp.exp(i - m)[..., None]
        k = write * k
        return MLSTMCarry(forget[..., None] * carry.c + outer(k, v), forget * carry.n + k, m)

    def read(self, params: MLSTMParams, carry: MLSTMCarry, drive: MLSTMDrive) -> jax.Array:
        """Compute h_t for each head, float[*B, heads * V], in the dtype of computation."""
        weight = jnp.sum(carry.n * drive.q, axis=-1)
        y = recall(carry.c, drive.q) / self._divisor(weight, carry.m)
        return self._joined(params, y, drive)

    def chunk(
        self, params: MLSTMParams, carry: MLSTMCarry, drive: MLSTMDrive, flags: Flags
    ) -> tuple[MLSTMCarry, jax.Array]:
        """Take the steps of a chunk at once; n_t is one more column of C_t, written by ones."""
        *vectors, i, f = drive
        (q, k, v), (i, f) = heads_first(vectors, (i, f))
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        carried, fresh = (
            jnp.concatenate([old.c, old.n[..., None]], axis=-1) for old in (carry, flags.fresh)
        )
        sight = look(jax.nn.log_sigmoid(f), carried, fresh, flags)
        sight, m = stabilise(sight, i, carry.m, flags.fresh.m)
        memory, y = write_and_read(sight, q, k, v)
        carry = MLSTMCarry(memory[..., :-1], memory[..., -1], m[..., -1])
        y = y[..., :-1] / self._divisor(y[..., -1], m)
        return carry, self._steps_first(params, y, drive)

    def _divisor(self, weight: jax.Array, m: jax.Array) -> jax.Array:
        """Compute max(|n q|, exp(-m)) + eps, of n q float[*B, heads], as [*B, heads, 1]."""
        least = jnp.exp(jnp.minimum(-m, 80))  # where it would overflow, h_t is below 1e-34
        return (jnp.maximum(jnp.abs(weight), least) + self.eps)[..., None]

    def gates(
        self, params: MLSTMParams, carry: MLSTMCarry, drive: MLSTMDrive, mixed: None = None
    ) -> dict[str, jax.Array]:
        """Compute f, float[*B, heads]; i is no number from 0 to 1."""
        return {"f": jax.nn.sigmoid(drive.f)}
