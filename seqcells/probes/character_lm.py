"""Character LM: predict the next character of a text, with the carry kept from window to window."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells import _check
from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Score, Success, attribute


@dataclasses.dataclass(frozen=True)
class CharacterLM(Classes):
    """Predict the next character of a text, at every step.

    Characters are one-hot. `CharacterLM.of(text)` makes the probe; the text itself is an argument
    of `sample`, as tokens. The trivial answer is the frequency of each character, and costs the
    unigram entropy of the text, - sum_c p_c ln p_c. (Random windows contain the first and last T
    characters less often than others, which does not matter in a long text.) A net that sees only
    the current character cannot do better than the conditional entropy of the next. A smaller loss
    on text that was not trained on therefore shows memory, and counts as solved (our threshold). A
    short text underestimates this entropy, which makes the threshold too strict.

    >>> text = "to be, or not to be, that is the question. " * 20
    >>> probe = CharacterLM.of(text, length=16)
    >>> train, valid, test = probe.split(probe.encode(text))
    >>> probe.sample(jax.random.key(0), 4, train).xs.shape
    (16, 4, 15)

    Args:
        vocabulary: all characters of the text, sorted, each once; at least 2.
        counts: how often each character occurs in the text.
        conditional: entropy of a character given the one before it, nats.
        length: T, steps per window; at least 1.
    """

    vocabulary: str
    counts: tuple[int, ...]
    conditional: float
    length: int = 100

    def __post_init__(self) -> None:
        if len(self.vocabulary) < 2 or self.vocabulary != "".join(sorted(set(self.vocabulary))):
            got = _check.describe_one(self.vocabulary)
            raise ValueError(f"vocabulary: expected at least 2 characters, sorted, got {got}")
        if len(self.counts) != len(self.vocabulary) or min(self.counts) < 1:
            got = _check.describe_one(self.counts)
            raise ValueError(f"counts: expected an int >= 1 for each character, got {got}")
        self._size("length", least=1)

    @classmethod
    def of(cls, text: str, length: int = 100) -> Self:
        """Make the probe of a text.

        Args:
            text: any str with at least two different characters, such as `Path(name).read_text()`.
            length: T, steps per window.
        """
        if not isinstance(text, str) or len(set(text)) < 2:
            got = _check.describe_one(text)
            raise ValueError(f"text: expected a str of at least 2 different characters, got {got}")
        points, tokens, counts = np.unique(_points(text), return_inverse=True, return_counts=True)
        pairs = np.unique(tokens[:-1] * len(points) + tokens[1:], return_counts=True)[1]
        current = np.unique(tokens[:-1], return_counts=True)[1]
        vocabulary = "".join(map(chr, points))
        return cls(vocabulary, tuple(counts.tolist()), _entropy(pairs) - _entropy(current), length)

    @attribute
    def input_size(self) -> int:
        """All characters."""
        return len(self.vocabulary)

    @attribute
    def output_size(self) -> int:
        """One logit per character."""
        return len(self.vocabulary)

    @attribute
    def baseline(self) -> float:
        """Unigram entropy of the text, nats."""
        return _entropy(np.array(self.counts))

    @attribute
    def success(self) -> Success:
        """A loss below the entropy of a character given the one before it."""
        return Success("loss", self.conditional)

    def encode(self, text: str) -> np.ndarray:
        """Return the index of each character in the vocabulary, int32[M]."""
        points, known = _points(text), _points(self.vocabulary)
        tokens = np.minimum(np.searchsorted(known, points), len(known) - 1)
        if np.any(unknown := known[tokens] != points):
            at = int(np.argmax(unknown))
            raise ValueError(
                f"text: expected characters of the vocabulary, got {text[at]!r} at {at}; "
                "make the probe from all the text that it will read"
            )
        return tokens.astype(np.int32)

    def decode(self, tokens: ArrayLike) -> str:
        """Return the text of tokens int[M]."""
        return "".join(self.vocabulary[i] for i in np.asarray(tokens).tolist())

    @staticmethod
    def split(tokens: ArrayLike, valid: float = 0.05, test: float = 0.05) -> list[np.ndarray]:
        """Cut a text into three contiguous parts: train, valid, test.

        Args:
            tokens: int[M].
            valid: share of the second part, 0 to below 1.
            test: share of the last part, 0 to below 1.
        """
        _check.rate("valid", valid)
        _check.rate("test", test)
        if valid + test >= 1:
            raise ValueError(f"valid: expected valid + test below 1, got {valid} + {test}")
        count = np.shape(tokens)[0]
        last = count - round(count * test)
        return np.split(np.asarray(tokens), [last - round(count * valid), last])

    def sample(self, key: jax.Array, batch_size: int, tokens: ArrayLike) -> Sample:
        """Draw windows: inputs [T, N, V] with one answer per step.

        Args:
            key: one random key.
            batch_size: N.
            tokens: int[M], from `encode`; M is at least T + 1.
        """
        _draw.check(key, batch_size)
        tokens = self._check_tokens(tokens, self.length + 1)
        start = _draw.integers(key, (batch_size,), 0, len(tokens) - self.length)
        times = _draw.steps(self.length + 1)
        return self._window(tokens[start[None] + times])

    def streams(self, tokens: ArrayLike, batch_size: int) -> Streams:
        """Cut a text into N contiguous streams that are read a window at a time; see `Streams`.

        Args:
            tokens: int[M], from `encode`; M is at least N T + 1.
            batch_size: N.
        """
        _check.size("batch_size", batch_size, least=1)
        tokens = self._check_tokens(tokens, batch_size * self.length + 1)
        return Streams(self, np.asarray(tokens), batch_size)

    def guess(self, sample: Sample) -> jax.Array:
        """Return the logarithm of the frequency of each character in the text."""
        logits = np.log(np.array(self.counts) / sum(self.counts))[None, None]
        shape = (*sample.targets.shape, self.output_size)
        return jnp.broadcast_to(jnp.asarray(logits, jnp.float32), shape)

    @staticmethod
    def bits(score: Score) -> jax.Array:
        """Return the loss in bits per character."""
        return score.loss / math.log(2)

    def _window(self, tokens: jax.Array) -> Sample:
        """Return the inputs and answers of tokens [T + 1, N]."""
        xs = _draw.one_hot(tokens[:-1], self.input_size)
        return Sample.at_every_step(xs, tokens[1:].astype(jnp.int32))

    def _check_tokens(self, tokens: ArrayLike, least: int) -> jax.Array:
        array = jnp.asarray(tokens)
        if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.integer) or len(array) < least:
            got = _check.describe_one(array)
            raise ValueError(f"tokens: expected an integer array of {least} or more, got {got}")
        size = len(self.vocabulary)
        expected = f"0 to {size - 1}"
        _check.within("tokens", tokens, 0, size - 1, expected, "; `encode` makes them")
        return array


class Streams:
    """N contiguous streams of a text, a window of T characters at a time.

    Window k + 1 of a stream continues where window k ended, so its initial carry is the last carry
    of window k. Stream n + 1 starts where stream n ends. Windows are built on demand::

        for window in probe.streams(tokens, batch_size):
            carry, ys = sc.unroll(cell, params, window.xs, carry)

    There are `len(streams)` full windows. Up to T - 1 characters at the end of each stream, and up
    to N - 1 at the end of the text, are not read.
    """

    def __init__(self, probe: CharacterLM, tokens: np.ndarray, batch_size: int) -> None:
        self._probe = probe
        each = (len(tokens) - 1) // batch_size
        starts = each * np.arange(batch_size)
        self._tokens = tokens[starts + np.arange(each + 1)[:, None]]  # [steps + 1, N]

    def __len__(self) -> int:
        return (len(self._tokens) - 1) // self._probe.length

    def __getitem__(self, k: int) -> Sample:
        """Return window k."""
        if not 0 <= k < len(self):
            raise IndexError(f"k: expected 0 to {len(self) - 1}, got {k}")
        start = k * self._probe.length
        return self._probe._window(jnp.asarray(self._tokens[start:][: self._probe.length + 1]))

    def __iter__(self) -> Iterator[Sample]:
        return (self[k] for k in range(len(self)))


def _points(text: str) -> np.ndarray:
    """Return the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of a distribution with these counts, nats."""
    p = counts / counts.sum()
    return float(-np.sum(p * np.log(p)))
