"""RetNet's retention: a matrix memory of which every head forgets at a fixed rate."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._flags import Flags
from seqcells._linear import affine
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells.cells._chunk import look, write_and_read
from seqcells.cells._matrix import MatrixMemory, heads_first, outer


@exported
class RetNetParams(NamedTuple):
    """Parameters of `RetNet`; heads within each block of columns."""

    w_ih: jax.Array  # [D, heads * (2K + V)], W_q|W_k|W_v


class RetNetDrive(NamedTuple):
    """What `RetNet` computes of a step's input."""

    q: jax.Array  # [*B, heads, K], divided by sqrt(K)
    k: jax.Array  # [*B, heads, K]
    v: jax.Array  # [*B, heads, V]


@dataclasses.dataclass(frozen=True, repr=False)
class RetNet(MatrixMemory):
    """Retention, the memory of RetNet (Sun et al. 2023, arXiv 2307.08621).

    Each head stores values by keys in a matrix of its own, and a query reads it::

        q|k|v = W x_t                              of sizes K|K|V for each head
        S_t = gamma S_{t-1} + k v'
        y_t = S_t' q                               q divided by sqrt(K)

    The share that is kept is fixed, gamma = 1 - 2^(-5 - head) for heads from 0, and nothing is
    erased. This is the memory alone: the rotation of q and k by their positions (xPos), the norm of
    each head and the gate belong to the layer around it.

    Args:
        hidden_size: heads * V, the size of the output, at least 1.
        heads: how many matrices there are; a divisor of hidden_size.
        key_size: K, at least 1; V if None. In the paper V is 2K.
        w_ih_init: initialiser of w_ih.
        dtype: dtype of computation; that of the input if None. The carry is in float32 when this is
            narrower.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: on a size below 1, or heads that do not divide hidden_size.
        TypeError: on an argument of the wrong type.

    >>> import jax, seqcells as sc
    >>> sc.param_count(sc.RetNet(8, heads=2, key_size=3).init(jax.random.key(0), input_size=5))
    100
    """

    GATES: ClassVar[tuple[str, ...]] = ("h",)

    @property
    def log_gamma(self) -> np.ndarray:
        """The logarithms of what the heads keep, float64[heads]."""
        return np.log1p(-(2.0 ** (-5.0 - np.arange(self.heads))))

    def init(self, key: jax.Array, input_size: int) -> RetNetParams:
        """Make parameters in `param_dtype` for inputs with `input_size` features."""
        rows, _ = self._sizes(key, input_size)
        return RetNetParams(self._weights(key, rows, gates=0))

    def project(self, params: RetNetParams, x: jax.Array) -> RetNetDrive:
        """Compute q, k and v. x: float[*B, D]."""
        (q, k, v), _ = self._cut(affine(x, params.w_ih, None, self.compute_dtype(x)))
        return RetNetDrive(q * self.matrix[0] ** -0.5, k, v)

    def recur(self, params: RetNetParams, carry: jax.Array, drive: RetNetDrive) -> jax.Array:
        """Compute S_t."""
        gamma = jnp.asarray(np.exp(self.log_gamma), carry.dtype)[:, None, None]
        return as_rows(gamma, carry) * carry + outer(drive.k, drive.v)

    def chunk(
        self, params: RetNetParams, carry: jax.Array, drive: RetNetDrive, flags: Flags
    ) -> tuple[jax.Array, jax.Array]:
        """Take the steps of a chunk at once."""
        (q, k, v), _ = heads_first(drive, ())
        log_gamma = jnp.asarray(self.log_gamma, q.dtype)[:, None]
        decay = jnp.zeros_like(q[..., 0]) + as_rows(log_gamma, q[..., 0])
        carry, y = write_and_read(look(decay, carry, flags.fresh, flags), q, k, v)
        return carry, self._steps_first(params, y, drive)
