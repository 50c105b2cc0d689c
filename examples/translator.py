"""A translator: reads a number digit by digit, and writes it in words.

    python -m examples.translator

An encoder reads the digits, of ragged length; its carry starts the decoder, which writes words. In
training the decoder is told the right word before (teacher forcing), so it is unrolled at once; to
translate, it reads its own words, a step at a time. Both use the same net.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
ONES = (ONES + "fifteen sixteen seventeen eighteen nineteen").split()
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = ["<end>", *ONES, *TENS, "hundred", "thousand"]
NUMBERS = {word: i for i, word in enumerate(WORDS)}
END, DIGITS, LONGEST = 0, 5, 10  # of a number, and of its words with the end

ENCODER = sc.Stack((sc.Embed(10, 16), sc.GRU(64)))
DECODER = sc.Stack((sc.Embed(len(WORDS), 16), sc.GRU(64), sc.Dense(len(WORDS))))
OPTIMIZER = optax.adam(3e-3)


def spell(n: int) -> list[str]:
    """Write a number below 100,000 in words."""
    if n < 20:
        return [ONES[n]]
    if n < 100:
        return [TENS[n // 10 - 2], *(spell(n % 10) if n % 10 else [])]
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if n >= unit:
            return [*spell(n // unit), name, *(spell(n % unit) if n % unit else [])]
    raise AssertionError(n)


def batch(numbers: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return digits [T, B] with their lengths, and words [U, B] with theirs, the end included."""
    digits, words = np.zeros((DIGITS, len(numbers)), int), np.zeros((LONGEST, len(numbers)), int)
    lengths = np.zeros((2, len(numbers)), int)
    for row, n in enumerate(numbers):
        source, target = [int(d) for d in str(n)], [NUMBERS[word] for word in spell(int(n))]
        digits[: len(source), row], words[: len(target), row] = source, target
        lengths[:, row] = len(source), len(target) + 1
    return digits, lengths[0], words, lengths[1]


def init(key: jax.Array) -> dict[str, Any]:
    """Make the parameters of both nets."""
    k_encoder, k_decoder = jax.random.split(key)
    return {"encoder": ENCODER.init(k_encoder, ()), "decoder": DECODER.init(k_decoder, ())}


def read(params: dict[str, Any], digits: jax.Array, lengths: jax.Array) -> Any:
    """Return the carry with which the decoder starts: its GRU's is the last of the encoder's."""
    (_, memory), _ = sc.unroll(ENCODER, params["encoder"], digits, lengths=lengths)
    nothing, _, also_nothing = DECODER.init_carry(digits[0])
    return nothing, memory, also_nothing


def loss(params: dict[str, Any], digits: jax.Array, n: jax.Array, words: jax.Array, m: jax.Array):
    """Compute the cross-entropy of each word, given the right ones before it."""
    before = jnp.concatenate([jnp.full_like(words[:1], END), words[:-1]])
    carry = read(params, digits, n)
    _, logits = sc.unroll(DECODER, params["decoder"], before, carry, lengths=m)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, words)
    return jnp.mean(losses, where=jnp.arange(LONGEST)[:, None] < m)


@jax.jit
def update(params: dict[str, Any], memory: optax.OptState, *data: jax.Array):
    """Take a step of training."""
    value, gradient = jax.value_and_grad(loss)(params, *data)
    updates, memory = OPTIMIZER.update(gradient, memory)
    return optax.apply_updates(params, updates), memory, value


@jax.jit
def translate(params: dict[str, Any], digits: jax.Array, lengths: jax.Array) -> jax.Array:
    """Write the likeliest next word until the end, which is 0: int[U, B]."""
    carry, start = read(params, digits, lengths), jnp.full(digits.shape[1], END)
    loop = sc.closed_loop(
        DECODER,
        params["decoder"],
        lambda logits: jnp.argmax(logits, axis=-1),
        start,
        LONGEST,
        carry=carry,
        stop=lambda word: word == END,
    )
    return loop.ys


def text(column: np.ndarray) -> str:
    """Return words up to the end."""
    words = [WORDS[i] for i in column]
    return " ".join(words[: words.index(WORDS[END])] if WORDS[END] in words else words)


def main(steps: int = 3000, rows: int = 128, seed: int = 0) -> float:
    """Train; return the share of numbers that were not trained on and are translated rightly."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(100_000)
    seen, unseen = numbers[:90_000], numbers[90_000:90_500]
    params = init(jax.random.key(seed))
    memory = OPTIMIZER.init(params)
    for step in range(steps):
        params, memory, value = update(params, memory, *batch(rng.choice(seen, rows)))
        if (step + 1) % 500 == 0:
            print(f"step {step + 1:5d}  loss {value:.4f}", flush=True)
    digits, n, _, _ = batch(unseen)
    written = [text(column) for column in np.asarray(translate(params, digits, n)).T]
    for number, words in list(zip(unseen, written, strict=True))[:3]:
        print(f"{number:6d}  {words}")
    right = float(
        np.mean(
            [words == " ".join(spell(int(n))) for n, words in zip(unseen, written, strict=True)]
        )
    )
    print(f"{right:.0%} of 500 numbers that were not trained on are right")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000, help="steps of training")
    main(parser.parse_args().steps)
