"""A text classifier in Flax: are the brackets of a ragged text balanced?

    python -m examples.text_classifier

An `nn.Embed` and an `nn.Dense` of Flax Linen around a GRU of seqcells. Texts have 2 to 40
characters; those of a batch are padded, and `lengths` says where each ends.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import seqcells as sc

CHARACTERS, LONGEST = "()[]ab ", 40
PAIRS = {"(": ")", "[": "]"}
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


class Classifier(nn.Module):
    """Reads texts int[B, T] with their lengths int[B]; returns logits [B, 2]."""

    @nn.compact
    def __call__(self, texts: jax.Array, lengths: jax.Array) -> jax.Array:
        """Classify texts."""
        xs = nn.Embed(len(CHARACTERS), 16)(texts)
        carry, _ = sc.linen.RNN(sc.GRU(64))(xs, lengths=lengths, time_axis=1)
        return nn.Dense(2)(carry)  # the carry after the last character of each


MODEL = Classifier()


def balanced(text: str) -> bool:
    """Whether each bracket is closed by its partner."""
    open_ones = []
    for character in text:
        if character in PAIRS:
            open_ones.append(PAIRS[character])
        elif character in PAIRS.values() and (not open_ones or open_ones.pop() != character):
            return False
    return not open_ones


def grow(rng: np.random.Generator, length: int) -> str:
    """Return a balanced text of this length."""
    if length < 2:
        return "".join(rng.choice(list("ab "), length))
    inner = int(rng.integers(0, length - 1))
    opening = str(rng.choice(list(PAIRS)))
    return opening + grow(rng, inner) + PAIRS[opening] + grow(rng, length - 2 - inner)


def sample(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return texts [B, T], lengths [B] and labels [B]; in half of them a character is changed."""
    texts, lengths = np.zeros((rows, LONGEST), int), rng.integers(2, LONGEST + 1, rows)
    labels = np.zeros(rows, int)
    for row, length in enumerate(lengths):
        text = grow(rng, length)
        if rng.random() < 0.5:
            place = int(rng.integers(length))
            text = text[:place] + str(rng.choice(list(CHARACTERS))) + text[place + 1 :]
        texts[row, :length] = [CHARACTERS.index(character) for character in text]
        labels[row] = balanced(text)
    return texts, lengths, labels


def loss(variables: Any, texts: jax.Array, lengths: jax.Array, labels: jax.Array) -> jax.Array:
    """Compute the cross-entropy."""
    logits: Any = MODEL.apply(variables, texts, lengths)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def update(variables: Any, memory: optax.OptState, *data: jax.Array):
    """Take a step of training."""
    value, gradient = jax.value_and_grad(loss)(variables, *data)
    updates, memory = OPTIMIZER.update(gradient, memory)
    return optax.apply_updates(variables, updates), memory, value


@jax.jit
def accuracy(variables: Any, texts: jax.Array, lengths: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the share of right answers."""
    logits: Any = MODEL.apply(variables, texts, lengths)
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def main(steps: int = 2000, rows: int = 128, seed: int = 0) -> float:
    """Train; return the accuracy on fresh texts."""
    rng = np.random.default_rng(seed)
    variables = MODEL.init(jax.random.key(seed), *sample(rng, 1)[:2])
    memory = OPTIMIZER.init(variables)
    for step in range(steps):
        variables, memory, value = update(variables, memory, *sample(rng, rows))
        if (step + 1) % 250 == 0:
            print(f"step {step + 1:5d}  loss {value:.3f}", flush=True)
    right = float(accuracy(variables, *sample(rng, 2000)))
    print(f"{right:.1%} of 2000 fresh texts are classified rightly")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="steps of training")
    main(parser.parse_args().steps)
