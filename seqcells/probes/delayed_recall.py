"""Delayed recall: one symbol to keep for a known number of steps."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from seqcells import _check
from seqcells.probes._probe import Probe, Score


@dataclasses.dataclass(frozen=True)
class DelayedRecall(Probe):
    """Report a cue that was shown `lag` steps ago (compare Bengio, Simard & Frasconi 1994).

    Symbols are one-hot. Steps 0 to T-1 show distractors drawn from an alphabet of their own, but
    step T - lag shows the cue; step T shows a report sign, and there the cue is asked for: the
    answer lies exactly `lag` steps behind. The lag is an array, so one compiled program serves all
    lags. Guessing costs ln(cues); a cross-entropy below 0.05 nats solves it.

    Args:
        length: T, the longest lag in steps; sequences have T + 1 steps. At least 1.
        cues: number of cues, at least 2.
        distractors: number of distractors, at least 1.
    """

    length: int = 100
    cues: int = 8
    distractors: int = 8

    def __post_init__(self) -> None:
        _check.size("length", self.length, least=1)
        _check.size("cues", self.cues, least=2)
        _check.size("distractors", self.distractors, least=1)

    @property
    def input_size(self) -> int:
        """Cues, then distractors, then the report sign."""
        return self.cues + self.distractors + 1

    @property
    def output_size(self) -> int:
        """One logit a cue."""
        return self.cues

    @property
    def baseline(self) -> float:
        """Cross-entropy of guessing, nats."""
        return math.log(self.cues)

    @property
    def threshold(self) -> float:
        """Nats."""
        return 0.05

    def sample(
        self, key: jax.Array, batch_size: int, lag: ArrayLike
    ) -> tuple[jax.Array, jax.Array]:
        """Draw inputs float[T + 1, N, D] and targets int[N].

        Args:
            key: one random key.
            batch_size: N.
            lag: int[], steps from the cue to the report, 1 to T; may be traced, and is then taken
                to the nearest that can be.

        Raises:
            TypeError: on a lag that is not one integer.
            ValueError: on a lag outside 1 to T, when it is concrete.
        """
        _check.key("key", key)
        _check.size("batch_size", batch_size, least=1)
        if jnp.shape(lag) != () or not jnp.issubdtype(jnp.result_type(lag), jnp.integer):
            came = _check.describe_one(jnp.asarray(lag))
            raise TypeError(f"lag: expected one int, got {came}; map over it for several")
        if not isinstance(lag, Tracer) and not 1 <= int(np.asarray(lag)) <= self.length:
            raise ValueError(f"lag: expected 1 to {self.length} steps, got {int(np.asarray(lag))}")
        lag = jnp.clip(lag, 1, self.length)
        k_cue, k_noise = jax.random.split(key)
        cue = jax.random.randint(k_cue, (batch_size,), 0, self.cues)
        noise = jax.random.randint(k_noise, (self.length + 1, batch_size), 0, self.distractors)
        times = jnp.arange(self.length + 1)[:, None]
        symbols = jnp.where(times == self.length - lag, cue, noise + self.cues)
        symbols = jnp.where(times == self.length, self.input_size - 1, symbols)
        return jax.nn.one_hot(symbols, self.input_size), cue

    def score(self, answers: jax.Array, targets: jax.Array) -> Score:
        """Cross-entropy in nats, and the share of cues named right."""
        self.check_answers(answers, targets)
        logs = jax.nn.log_softmax(answers)
        picked = jnp.take_along_axis(logs, targets[:, None], axis=-1)
        right = jnp.argmax(answers, axis=-1) == targets
        return Score(-jnp.mean(picked), jnp.mean(right.astype(logs.dtype)))
