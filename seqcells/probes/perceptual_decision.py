"""Perceptual decision: which of two sides has more noisy evidence?"""

from __future__ import annotations

import dataclasses

import jax

from seqcells.probes import _draw
from seqcells.probes._evidence import Evidence
from seqcells.probes._probe import Sample


@dataclasses.dataclass(frozen=True)
class PerceptualDecision(Evidence):
    """Say whether noisy evidence was positive or negative on average (Britten et al. 1992).

    The evidence of a step is a mean, of random sign and strength, plus Gaussian noise, as the
    motion of random dots with a coherence. Inputs are the evidence and the go signal. After the
    evidence there is a delay with inputs of 0. At the go signal the answer is 1 for a positive
    mean, 0 for a negative one. Guessing costs ln 2. The ideal observer, who adds up all evidence,
    is right in a share `ideal` of the sequences; an accuracy above 97 % of that solves it (our
    threshold).

    Args:
        length: steps of evidence, at least 1.
        delay: steps between the evidence and the go signal, at least 0.
        strengths: the sizes of the mean, above 0, drawn with equal probability.
        noise: the standard deviation of the noise of a step, above 0.
    """

    input_size = 2  # evidence, and the go signal

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [length + delay + 1, N, 2] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        sides, evidence = self._see(key, batch_size)
        return self._sample([evidence], [], sides)
