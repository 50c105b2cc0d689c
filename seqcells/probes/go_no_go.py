"""Go or no-go: act on a signal, or withhold it, as a cue said before."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success


@dataclasses.dataclass(frozen=True)
class GoNoGo(Classes):
    """Answer a signal with 1 or 0, as a cue said `gap` steps before (Donders 1868).

    Inputs are the go cue, the no-go cue, and the signal, each 1 at its step and else 0. The answer
    is due at the signal, at the last step. Guessing costs ln 2; an accuracy above 0.99 solves it
    (our threshold).

    Args:
        length: T, the longest gap in steps; sequences have T + 1 steps. At least 1.
    """

    length: int = 20

    input_size = 3  # go, no-go, signal
    output_size = 2  # one logit for no-go, one for go
    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("length", least=1)

    def sample(self, key: jax.Array, batch_size: int, gap: ArrayLike | None = None) -> Sample:
        """Draw inputs [T + 1, N, 3] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            gap: int[], steps from the cue to the signal, 1 to T; may be traced. None means T.
        """
        _draw.check(key, batch_size)
        gap = _draw.knob("gap", gap, 1, self.length)
        go, times = _draw.integers(key, (batch_size,), 0, 2), _draw.steps(self.length + 1)
        symbols = jnp.where(times == self.length - gap, 1 - go[None], -1)
        symbols = jnp.where(times == self.length, 2, symbols)
        return Sample.at_one_step(_draw.one_hot(symbols, 3), go, self.length)
