"""The adding problem, in Pascanu's form."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells.probes._marked import MarkedEarly


@dataclasses.dataclass(frozen=True)
class AddingPascanu(MarkedEarly):
    """Return the mean of the two marked numbers (Pascanu, Mikolov & Bengio 2013).

    Each sequence has its own length L, uniform from T to T + T // 10. Step t shows (u_t, m_t), u_t
    from U[0, 1]; one marker is in [0, L // 10), one in [L // 10, L // 2). The answer, (u_i + u_j) /
    2, is due at the last step of the sequence, at least L / 2 steps after both. It is wrong if its
    squared error exceeds 0.04; less than 1 % errors in 10,000 sequences solves it. Always answering
    1/2 costs 1/24, a quarter of the cost of guessing the sum, and counts as correct for 64 % of the
    sequences. The authors' code draws one length per batch, and never the longest.

    Args:
        length: T, the shortest sequence in steps; at least 10. Arrays have T + T // 10 steps.
    """

    MEAN: ClassVar[float] = 1 / 2

    baseline = 1 / 24  # mean squared error of always answering 1/2

    def _ask(self, marked: jax.Array) -> jax.Array:
        return jnp.mean(marked, axis=0)
