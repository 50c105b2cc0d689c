"""The adding problem, in uRNN's form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._marked import MarkedSum
from seqcells.probes._probe import Success


@dataclasses.dataclass(frozen=True)
class AddingURNN(MarkedSum):
    """Add the two marked numbers (Arjovsky, Shah & Bengio 2016, after Hochreiter 1997).

    Step t shows (u_t, m_t), u_t from U[0, 1]; one marker is in each half of the sequence. The
    answer at the last step is u_i + u_j; a mean squared error below 0.01 solves it. Always
    answering 1 costs the variance of the sum, 1/6 (the often quoted 0.1767 is wrong).
    `AddingPascanu` and `AddingTCN` are different tasks: their markers differ, and the answer of
    `AddingPascanu` is the mean.

    Args:
        length: T, steps; at least 2.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (100, 200, 400, 750)

    success = Success("loss", 0.01)

    def _place(
        self, keys: Sequence[jax.Array], length: jax.Array, batch_size: int
    ) -> tuple[jax.Array, jax.Array]:
        shape = (batch_size,)
        first = _draw.integers(keys[0], shape, 0, length // 2)
        second = _draw.integers(keys[1], shape, length // 2, length)
        return jnp.stack([first, second]), jnp.full(shape, length, jnp.int32)
