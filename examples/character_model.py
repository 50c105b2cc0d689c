"""A character model that streams: trained on a text piece by piece, and sampled without end.

    python -m examples.character_model --text my.txt

The text is cut into rows that are read side by side. Each update reads the next 64 characters of
every row and hands the carry on, without a gradient (truncated backpropagation). Sampling takes one
step at a time, so it needs no more memory for a longer text.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc

TEXT = Path(__file__).parents[1] / "README.md"
ROWS, WINDOW = 16, 64  # streams side by side, and characters of an update
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


def make(size: int, units: int) -> sc.Stack:
    """Return the net: symbols in, logits of the next symbol out."""
    return sc.Stack((sc.Embed(size, 32), sc.LSTM(units), sc.Dense(size)))


def streams(symbols: np.ndarray) -> np.ndarray:
    """Cut a text into [windows, WINDOW + 1, ROWS]: row b goes on where it ended a window before."""
    steps = (len(symbols) - 1) // (ROWS * WINDOW) * WINDOW
    rows = np.stack([symbols[b * steps : (b + 1) * steps + 1] for b in range(ROWS)], axis=1)
    return np.stack([rows[i : i + WINDOW + 1] for i in range(0, steps, WINDOW)])


def loss(params: Any, net: sc.Stack, carry: Any, window: jax.Array) -> tuple[jax.Array, Any]:
    """Compute the cross-entropy of a window in bits a character; return the carry after it, too."""
    carry, logits = sc.unroll(net, params, window[:-1], carry)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, window[1:]).mean()
    return nats / jnp.log(2), carry


@functools.partial(jax.jit, static_argnames="net")
def update(params: Any, memory: optax.OptState, net: sc.Stack, carry: Any, window: jax.Array):
    """Learn from the next window of each row."""
    graded = jax.value_and_grad(loss, has_aux=True)
    (bits, carry), gradient = graded(params, net, carry, window)
    updates, memory = OPTIMIZER.update(gradient, memory)
    return optax.apply_updates(params, updates), memory, carry, bits


@functools.partial(jax.jit, static_argnames=("net", "length"))
def sample(params: Any, net: sc.Stack, first: jax.Array, key: jax.Array, length: int) -> jax.Array:
    """Draw a text of this length, int[length], from its first symbol."""

    def draw(logits: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, logits / 0.7)

    return sc.closed_loop(net, params, draw, first, length, key=key).ys


def main(text: str | None = None, epochs: int = 60, units: int = 128, seed: int = 0) -> list[float]:
    """Train; return the bits a character of each epoch."""
    text = TEXT.read_text("utf-8") if text is None else text
    alphabet = sorted(set(text))
    windows = streams(np.array([alphabet.index(character) for character in text]))
    net = make(len(alphabet), units)
    params = net.init(jax.random.key(seed), input_size=())
    memory, history = OPTIMIZER.init(params), []
    print(f"{len(text)} characters, {len(alphabet)} different ones")
    for epoch in range(epochs):
        carry, bits = net.init_carry(windows[0, 0], params), []  # the streams begin again
        for window in windows:
            params, memory, carry, one = update(params, memory, net, carry, window)
            bits.append(float(one))
        history.append(float(np.mean(bits)))
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}  {history[-1]:.2f} bits a character", flush=True)
    drawn = sample(params, net, jnp.array(alphabet.index(text[0])), jax.random.key(seed), 200)
    print(text[0] + "".join(alphabet[i] for i in drawn))
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--text", type=Path, default=TEXT, help="file to learn (README.md)")
    parser.add_argument("--epochs", type=int, default=60, help="times that the text is read")
    arguments = parser.parse_args()
    main(arguments.text.read_text("utf-8"), arguments.epochs)
