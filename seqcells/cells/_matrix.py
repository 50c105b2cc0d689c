"""What the cells share whose memory is a matrix: heads, keys, values and queries."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check, initializers
from seqcells._cell import ChunkCell
from seqcells._types import Carry, Drive, Params, Shape
from seqcells.cells._dense import SizedCell


@dataclasses.dataclass(frozen=True, repr=False)
class MatrixMemory(SizedCell, ChunkCell):
    """A cell with a matrix [K, V] for each head, which keys write and a query reads.

    Its weights w_ih have the columns q|k|v and then those of the gates, head by head within each.
    V is hidden_size / heads.
    """

    _: dataclasses.KW_ONLY
    heads: int = 1
    key_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.divisor("heads", self.heads, self.hidden_size, "hidden_size")
        if self.key_size is not None:
            _check.size("key_size", self.key_size, least=1)
        initializers.check("w_ih_init", self.w_ih_init, 1)

    @property
    def matrix(self) -> tuple[int, int]:
        """K and V, the sizes of a key and of a value."""
        value = self.hidden_size // self.heads
        return self.key_size or value, value

    def _carry_shapes(self, input_size: int) -> tuple[Shape, ...]:
        """Return [heads, K, V]."""
        return ((self.heads, *self.matrix),)

    def read(self, params: Params, carry: Carry, drive: Drive) -> jax.Array:
        """Compute q S for each head, float[*B, heads * V], in the dtype of computation."""
        return self._joined(params, recall(carry, drive.q), drive)

    def _joined(self, params: Params, y: jax.Array, drive: Drive) -> jax.Array:
        """Join what the heads read, float[*B, heads, V], in the dtype of computation."""
        return super().read(params, y.reshape(*y.shape[:-2], self.hidden_size), drive)

    def _steps_first(self, params: Params, y: jax.Array, drive: Drive) -> jax.Array:
        """Join what the heads read in a chunk, [*B, heads, C, V], to ys [C, *B, heads * V]."""
        return self._joined(params, jnp.moveaxis(y, -2, 0), drive)

    def _weights(self, key: jax.Array, rows: int, gates: int) -> jax.Array:
        """Draw w_ih [rows, ...] for q, k, v and a number of gates for each head."""
        columns = self.heads * (2 * self.matrix[0] + self.matrix[1] + gates)
        shape, init = (rows, columns), self.w_ih_init
        return initializers.per_gate("w_ih_init", init, key, shape, 1, self.param_dtype)

    def _cut(self, sums: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        """Cut W x into q, k and v, float[*B, heads, K or V], and into gates [*B, heads]."""
        heads, (key, value) = self.heads, self.matrix
        ends = [heads * key, 2 * heads * key, heads * (2 * key + value)]
        ends += range(ends[-1] + heads, sums.shape[-1], heads)
        parts = jnp.split(sums, ends, axis=-1)
        pairs = zip(parts[:3], (key, key, value), strict=True)
        return [a.reshape(*a.shape[:-1], heads, size) for a, size in pairs], parts[3:]


def heads_first(vectors: Drive, numbers: Drive) -> tuple[list[jax.Array], list[jax.Array]]:
    """Put the steps of [C, *B, heads, K or V] next to last, and those of [C, *B, heads] last."""
    return [jnp.moveaxis(a, 0, -2) for a in vectors], [jnp.moveaxis(a, 0, -1) for a in numbers]


def recall(memory: jax.Array, q: jax.Array) -> jax.Array:
    """Read matrices float[*B, heads, K, V] by queries float[*B, heads, K]."""
    return jnp.einsum("...kv,...k->...v", memory, q)


def outer(k: jax.Array, v: jax.Array) -> jax.Array:
    """Multiply keys float[*B, heads, K] by values float[*B, heads, V] to matrices."""
    return k[..., None] * v[..., None, :]
