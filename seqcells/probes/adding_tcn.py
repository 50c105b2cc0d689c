"""The adding problem, in TCN's form."""

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
class AddingTCN(MarkedSum):
    """Add two marked numbers, which may be anywhere (Bai, Kolter & Koltun 2018).

    Step t shows (u_t, m_t), u_t from U[0, 1]; the markers are at two distinct steps, all pairs
    equally likely. The answer at the last step is u_i + u_j; always answering 1 costs 1/6. In about
    a quarter of the sequences both are in the second half, so this needs less memory than
    `AddingURNN`. The paper has no criterion of success, but reports the mean squared error on fresh
    sequences, at T = 600 either below 1e-4 or above 0.16; below 1e-3 counts as solved here.

    Args:
        length: T, steps; at least 2.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (200, 400, 600)

    success = Success("loss", 0.001)

    def _place(
        self, keys: Sequence[jax.Array], length: jax.Array, batch_size: int
    ) -> tuple[jax.Array, jax.Array]:
        shape = (batch_size,)
        first = _draw.integers(keys[0], shape, 0, length)
        second = (first + _draw.integers(keys[1], shape, 1, length)) % length
        return jnp.stack([first, second]), jnp.full(shape, length, jnp.int32)
