"""Context-dependent integration: two kinds of evidence, and a cue that says which one counts."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells.probes import _draw
from seqcells.probes._evidence import Evidence
from seqcells.probes._probe import Sample


@dataclasses.dataclass(frozen=True)
class ContextIntegration(Evidence):
    """Say whether the evidence that the context names was positive on average (Mante et al. 2013).

    There are two channels of evidence, such as motion and colour, each as in `PerceptualDecision`
    with its own sign and strength. Two more inputs name the channel that counts, one-hot, at every
    step. The last input is the go signal, at which the answer is 1 for a positive mean, 0 for a
    negative one. Guessing costs ln 2. The ideal observer is right in a share `ideal` of the
    sequences; an accuracy above 97 % of that solves it (our threshold).

    Args:
        length: steps of evidence, at least 1.
        delay: steps between the evidence and the go signal, at least 0.
        strengths: the sizes of the mean, above 0, drawn with equal probability.
        noise: the standard deviation of the noise of a step, above 0.
    """

    input_size = 5  # two channels of evidence, the context, and the go signal

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [length + delay + 1, N, 5] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        k_context, *keys = jax.random.split(key, 3)
        sides, evidence = zip(*(self._see(k, batch_size) for k in keys), strict=True)
        context = _draw.integers(k_context, (batch_size,), 0, 2)
        held = [(context == i).astype(jnp.float32) for i in range(2)]
        return self._sample([*evidence], held, jnp.where(context == 0, *sides))
