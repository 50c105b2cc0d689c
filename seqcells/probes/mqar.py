"""Multi-query associative recall: remember pairs, and answer each key with its value later."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success, attribute


@dataclasses.dataclass(frozen=True)
class MQAR(Classes):
    """Return the value that was shown with a key (Arora et al. 2023, "Zoology").

    Steps 0 to 2K-1 show K keys, each followed by its value: k_1 v_1 ... k_K v_K. Keys differ, and
    so do values; the two alphabets are disjoint. Then each key is shown once more, at step 2K + 2g,
    where its value is due; other steps are blank. The gaps g differ, and are drawn one key after
    another with probability proportional to (g + 1)^(power - 1), so early keys tend to come back
    early. A net that remembers the values but not their keys can answer them with equal
    probability, which costs ln K. An accuracy above 0.99 solves it (our threshold).

    Tokens are one-hot, so that a net's input weights are the embedding, which the paper's nets also
    learn. This takes T x V floats per sequence, so the vocabulary is 1,024 by default instead of
    the paper's 8,192 (2 MB for a sequence of 64 steps). The paper advises more than 1,000, because
    a small vocabulary is too easy. Answers are logits over the values only.

    Args:
        length: T, steps; even, and at least 4 times `pairs`.
        pairs: K, pairs of key and value; the paper has 4, 8, 16, 64 at lengths 64, 128, 256, 512.
        vocabulary: V, tokens, even: the blank, V/2 - 1 keys, V/2 values.
        power: exponent of the distribution of gaps, above 0; 1 makes it uniform.
    """

    LENGTHS: ClassVar[tuple[int, ...]] = (64, 128, 256, 512)

    length: int = 64
    pairs: int = 4
    vocabulary: int = 1024
    power: float = 0.01

    success = Success("accuracy", 0.99)

    def __post_init__(self) -> None:
        self._size("pairs", least=1)
        self._size("length", least=4 * self.pairs)
        self._size("vocabulary", least=2 * (self.pairs + 1))
        for name in ("length", "vocabulary"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name}: expected an even int, got {getattr(self, name)}")
        self._number("power")

    @attribute
    def input_size(self) -> int:
        """The blank, then keys, then values."""
        return self.vocabulary

    @attribute
    def output_size(self) -> int:
        """One logit per value."""
        return self.vocabulary // 2

    @attribute
    def baseline(self) -> float:
        """Cross-entropy of answering the shown values with equal probability, nats."""
        return math.log(self.pairs)

    def sample(self, key: jax.Array, batch_size: int) -> Sample:
        """Draw inputs [T, N, V] with K answers each.

        Args:
            key: one random key.
            batch_size: N.
        """
        _draw.check(key, batch_size)
        keys = jax.random.split(key, batch_size)
        tokens, targets, steps = jax.vmap(self._sequence, out_axes=1)(keys)
        times = _draw.steps(self.length)
        tokens = jnp.where(times <= steps[-1:], tokens, -1)  # which one_hot turns into zeros
        return Sample(_draw.one_hot(tokens, self.vocabulary), targets, steps)

    def guess(self, sample: Sample) -> jax.Array:
        """Answer the shown values with equal probability; each is the answer once."""
        shown = jnp.max(_draw.one_hot(sample.targets, self.output_size), axis=0)
        logits = jnp.where(shown > 0, jnp.float32(0), -1e9)
        return jnp.broadcast_to(logits, (*sample.targets.shape, self.output_size))

    def _sequence(self, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return tokens int32[T], and the answers and their steps in order of time, int32[K]."""
        half, start = self.vocabulary // 2, 2 * self.pairs
        slots = (self.length - start) // 2
        law = np.arange(1, slots + 1) ** (self.power - 1)
        k_key, k_value, k_gap = jax.random.split(key, 3)
        keys = _draw.distinct(k_key, half - 1, self.pairs) + 1
        values = _draw.distinct(k_value, half, self.pairs)
        p = jnp.asarray(law / law.sum(), jnp.float32)
        gaps = _draw.distinct(k_gap, slots, self.pairs, p)
        shown = jnp.stack([keys, values + half], axis=1).ravel()
        queries = jnp.zeros(self.length - start, jnp.int32).at[2 * gaps].set(keys)
        order = jnp.argsort(gaps)
        return jnp.concatenate([shown, queries]), values[order], start + 2 * gaps[order]
