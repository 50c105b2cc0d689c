"""The multiplication problem."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells.probes._marked import MarkedEarly


@dataclasses.dataclass(frozen=True)
class Multiplication(MarkedEarly):
    """Multiply the two marked numbers (Pascanu, Mikolov & Bengio 2013).

    Lengths and markers are those of `AddingPascanu`, but the answer is the product u_i u_j, so a
    memory that only adds does not solve it. An answer is wrong if its squared error exceeds 0.04;
    less than 1 % errors in 10,000 sequences solves it. Always answering 1/4 costs 7/144, and counts
    as correct for 61 % of the sequences. In Hochreiter & Schmidhuber 1997 the first marker is in
    the first ten steps for every T.

    Args:
        length: T, the shortest sequence in steps; at least 10. Arrays have T + T // 10 steps.
    """

    MEAN: ClassVar[float] = 1 / 4

    baseline = 7 / 144  # mean squared error of always answering 1/4

    def _ask(self, marked: jax.Array) -> jax.Array:
        return jnp.prod(marked, axis=0)
