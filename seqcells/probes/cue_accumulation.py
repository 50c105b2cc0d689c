"""Cue accumulation: on which side were more of the cues, said after a delay?"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute

RATE = 0.25  # how often a distractor is on


@dataclasses.dataclass(frozen=True)
class CueAccumulation(Classes):
    """Say, after a delay, which side had more cues (Bellec et al. 2020, fig. 3).

    A cue is left or right, and `spacing` steps pass from one to the next. Each sequence leans to a
    side, from which each cue comes with probability `lean`. Distractors are on at random, each at a
    quarter of all steps. After the cues there is a delay, and then a go signal at the last step,
    where the answer is 0 if most cues were left, 1 if most were right. So what counts is at the
    start, and the answer at the end. In the paper the inputs are groups of spiking units, in steps
    of 1 ms; here they are one number each: left, right, the go signal, and the distractors.

    Guessing costs ln 2; an accuracy above 0.95 solves it (our threshold). One cue alone says which
    side had more in 3 of 4 sequences, for 7 cues and a lean of 0.7.

    Args:
        cues: cues of a sequence, an odd number, so that one side has more.
        spacing: steps from one cue to the next, at least 1.
        delay: the longest delay, steps from the end of the cues to the go signal, at least 0.
        distractors: inputs that are on at random, at least 0.
        lean: the probability of a cue to come from the side of the sequence, above 0, at most 1.
    """

    cues: int = 7
    spacing: int = 3
    delay: int = 20
    distractors: int = 4
    lean: float = 0.7

    output_size = 2  # one logit for left, one for right
    success = Success("accuracy", 0.95)

    def __post_init__(self) -> None:
        self._size("cues", least=1)
        if self.cues % 2 == 0:
            raise ValueError(f"cues: expected an odd number, got {self.cues}: both may have half")
        self._size("spacing", least=1)
        self._size("delay", least=0)
        self._size("distractors", least=0)
        self._number("lean", 1)

    @attribute
    def input_size(self) -> int:
        """Left, right, the go signal, then distractors."""
        return 3 + self.distractors

    def sample(self, key: jax.Array, batch_size: int, delay: ArrayLike | None = None) -> Sample:
        """Draw inputs [cues * spacing + D + 1, N, 3 + distractors] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            delay: int[], steps from the end of the cues to the go signal, 0 to D; may be traced.
                The cues start later if it is shorter. None means D, the field `delay`.
        """
        _draw.check(key, batch_size)
        delay = _draw.knob("delay", delay, 0, self.delay)
        k_side, k_cues, k_noise = jax.random.split(key, 3)
        side = _draw.integers(k_side, (batch_size,), 0, 2)
        agrees = _draw.uniform(k_cues, (self.cues, batch_size)) < self.lean
        cues = jnp.where(agrees, side, 1 - side)  # [cues, N]
        last = self.cues * self.spacing + self.delay
        times = _draw.steps(last + 1)
        since = times - (self.delay - delay)
        which = jnp.clip(since // self.spacing, 0, self.cues - 1)
        shown = (since % self.spacing == 0) & (since >= 0) & (since < self.cues * self.spacing)
        symbols = jnp.where(shown, jnp.take(cues, which[:, 0], axis=0), -1)
        symbols = jnp.where(times == last, 2, symbols)
        noise = _draw.uniform(k_noise, (last + 1, batch_size, self.distractors)) < RATE
        xs = jnp.concatenate([_draw.one_hot(symbols, 3), noise.astype(jnp.float32)], axis=-1)
        most = (2 * jnp.sum(cues, axis=0) > self.cues).astype(jnp.int32)
        return Sample.at_one_step(xs, most, last)
