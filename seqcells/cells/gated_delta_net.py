"""Gated DeltaNet and DeltaNet: a matrix memory that erases what a key held before it writes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._flags import Flags
from seqcells._linear import affine, wide
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._chunk import erase, look, write_and_read
from seqcells.cells._dense import check_activation
from seqcells.cells._matrix import MatrixMemory, heads_first, outer, recall
from seqcells.cells._ssm import draw_logs, inverse_softplus


@exported
class GatedDeltaNetParams(NamedTuple):
    """Parameters of `GatedDeltaNet`; heads within each block of columns."""

    w_ih: jax.Array  # [D, heads * (2K + V + 2)], W_q|W_k|W_v|W_b|W_a; without W_a if decay=False
    b_dt: jax.Array | None  # [heads]; None if decay=False
    a_log: jax.Array | None  # [heads]; None if decay=False


class GatedDeltaNetDrive(NamedTuple):
    """What `GatedDeltaNet` computes of a step's input."""

    q: jax.Array  # [*B, heads, K], of length 1 / sqrt(K)
    k: jax.Array  # [*B, heads, K], of length 1
    v: jax.Array  # [*B, heads, V]
    beta: jax.Array  # [*B, heads]
    log_alpha: jax.Array | None  # [*B, heads], at most 0; None if decay=False


ACTIVATIONS = {"silu": jax.nn.silu, "identity": lambda a: a}


@dataclasses.dataclass(frozen=True, repr=False)
class GatedDeltaNet(MatrixMemory):
    """Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464); DeltaNet with `decay=False`.

    Each head stores values by keys in a matrix of its own, and a query reads it. What the key held
    is erased first, in the share beta (the delta rule)::

        q|k|v|b|a = W x_t                                  of sizes K|K|V|1|1 for each head
        q, k = act(q) / |act(q)|, act(k) / |act(k)|, v = act(v)           q divided by sqrt(K)
        alpha_t = exp(-exp(a_log) softplus(a + b_dt))             the share that is KEPT; or 1
        beta_t = beta_max sigmoid(b)                           the share that is rewritten
        u_t = beta_t (v - alpha_t S_{t-1}' k)
        S_t = alpha_t S_{t-1} + k u_t'
        y_t = S_t' q

    Without decay this is DeltaNet (Yang et al. 2024, arXiv 2406.06484; Schlag et al. 2021). With
    beta_max=2 the step may turn the sign of what a key held, an eigenvalue from -1 to 1, as tasks
    such as parity need (Grazzi et al. 2024, arXiv 2411.12537). As in the authors' code (fla), 1e-6
    is added to the squared lengths. This is the memory alone: the convolution, which is between W x
    and act there, the norm of each head and the output gate belong to the layer around it.

    Args:
        hidden_size: heads * V, the size of the output, at least 1.
        heads: how many matrices there are; a divisor of hidden_size.
        key_size: K, at least 1; V if None.
        decay: whether the memory decays by alpha; False for DeltaNet.
        beta_max: the largest beta, above 0 and at most 2.
        activation: "silu" or "identity".
        w_ih_init: initialiser of w_ih.
        dtype: dtype of computation; that of the input if None. The carry is in float32 when this is
            narrower.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, heads that do not divide hidden_size, beta_max out of range,
            or an unknown activation.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> cell = sc.GatedDeltaNet(8, heads=2, key_size=3)
    >>> sc.param_count(cell.init(jax.random.key(0), input_size=5))
    124
    """

    GATES: ClassVar[tuple[str, ...]] = ("beta", "alpha")

    _: dataclasses.KW_ONLY
    decay: bool = True
    beta_max: float = 1.0
    activation: str = "silu"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.flag("decay", self.decay)
        expected = "a number above 0 and at most 2"
        _check.number("beta_max", self.beta_max, expected, lambda a: 0 < a <= 2)
        check_activation(self.activation, names=ACTIVATIONS)

    def init(self, key: jax.Array, input_size: int) -> GatedDeltaNetParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features.

        As in the authors' code, exp(a_log) is uniform from 0 to 16, and softplus(b_dt) from 0.001
        to 0.1 with uniform logarithms.
        """
        rows, _ = self._sizes(key, input_size)
        k_ih, k_dt, k_a = jax.random.split(key, 3)
        w_ih = self._weights(k_ih, rows, gates=1 + self.decay)
        if not self.decay:
            return GatedDeltaNetParams(w_ih, None, None)
        shape, dtype = (self.heads,), wide(self.param_dtype)
        b_dt = inverse_softplus(jnp.exp(draw_logs(k_dt, shape, 0.001, 0.1, dtype)))
        a_log = jnp.log(16 * (1 - jax.random.uniform(k_a, shape, dtype)))
        return GatedDeltaNetParams(
            w_ih, b_dt.astype(self.param_dtype), a_log.astype(self.param_dtype)
        )

    def project(self, params: GatedDeltaNetParams, x: jax.Array) -> GatedDeltaNetDrive:
        """Compute q, k, v, beta and the logarithm of alpha. x: float[*B, D]."""
        (q, k, v), gates = self._cut(affine(x, params.w_ih, None, self.compute_dtype(x)))
        q, k, v = map(ACTIVATIONS[self.activation], (q, k, v))
        q, k = (a * jax.lax.rsqrt(jnp.sum(a * a, -1, keepdims=True) + 1e-6) for a in (q, k))
        beta, log_alpha = self.beta_max * jax.nn.sigmoid(gates[0]), None
        if params.b_dt is not None and params.a_log is not None:
            a = gates[1]
            b_dt, a_log = (as_rows(p.astype(a.dtype), a) for p in (params.b_dt, params.a_log))
            log_alpha = -jnp.exp(a_log) * jax.nn.softplus(a + b_dt)
        return GatedDeltaNetDrive(q * self.matrix[0] ** -0.5, k, v, beta, log_alpha)

    def recur(
        self, params: GatedDeltaNetParams, carry: jax.Array, drive: GatedDeltaNetDrive
    ) -> jax.Array:
        """Compute S_t."""
        _, k, v, beta, log_alpha = drive
        if log_alpha is not None:
            carry = jnp.exp(log_alpha)[..., None, None] * carry
        return carry + outer(k, beta[..., None] * (v - recall(carry, k)))

    def chunk(
        self,
        params: GatedDeltaNetParams,
        carry: jax.Array,
        drive: GatedDeltaNetDrive,
        flags: Flags,
    ) -> tuple[jax.Array, jax.Array]:
        """Take the steps of a chunk at once."""
        *vectors, beta, log_alpha = drive
        log_alpha = jnp.zeros_like(beta) if log_alpha is None else log_alpha
        (q, k, v), (beta, log_alpha) = heads_first(vectors, (beta, log_alpha))
        sight = look(log_alpha, carry, flags.fresh, flags)
        carry, y = write_and_read(sight, q, k, erase(sight, k, v, beta))
        return carry, self._steps_first(params, y, drive)

    def gates(
        self,
        params: GatedDeltaNetParams,
        carry: jax.Array,
        drive: GatedDeltaNetDrive,
        mixed: None = None,
    ) -> dict[str, jax.Array]:
        """Compute beta / beta_max and, with decay, alpha, float[*B, heads]."""
        gates = {"beta": drive.beta / self.beta_max}
        return gates if drive.log_alpha is None else gates | {"alpha": jnp.exp(drive.log_alpha)}
