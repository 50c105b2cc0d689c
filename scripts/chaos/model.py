"""The small model that the targets train."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from seqcells._types import Json

CONFIG: Json = {
    "cell": {"name": "RNN", "hidden_size": 4},
    "learning_rate": 0.01,
    "segment": 5,
}
CELL = sc.RNN(4)


def loss(
    params: sc.RNNParams, key: jax.Array, hparams: object
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Remember the first of 8 inputs."""
    del hparams
    xs = jax.random.normal(key, (8, 4, 2))
    _, ys = sc.unroll(CELL, params, xs)
    return jnp.mean(jnp.square(ys[-1, :, 0] - xs[0, :, 0])), {}


@jax.jit  # one program starts faster than many small ones
def start() -> tuple[sc.train.TrainState, sc.train.HParams]:
    """Return state and hyperparameters before the first step."""
    hparams = sc.train.HParams(learning_rate=CONFIG["learning_rate"])
    params = CELL.init(jax.random.key(0), input_size=2)
    return sc.train.init(params, hparams, jax.random.key(1)), hparams


def make(scale: float = 1.0) -> sc.sweep.Task:
    """Make the task of a sweep; the loss is multiplied by `scale`."""

    def scaled(
        params: sc.RNNParams, key: jax.Array, hparams: object
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        return scale * loss(params, key, hparams)[0], {}

    return sc.sweep.from_loss(scaled, lambda key, _: CELL.init(key, input_size=2))


def descent(size: int) -> sc.sweep.Task:
    """Make the task of a search: descend a parabola, which diverges at a `rate` above 2."""

    def init(hparams: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        return hparams["gain"] * jax.random.normal(key, (size,))

    def segment(x: jax.Array, hparams: dict[str, jax.Array], n: int):
        def step(x: jax.Array, _: None):
            x = x - hparams["rate"] * x
            return x, {"loss": jnp.sum(jnp.square(x))}

        return jax.lax.scan(step, x, length=n)

    return sc.sweep.Task(init, segment)


def digest(state: sc.train.TrainState) -> str:
    """Return the SHA-256 of all numbers of a state."""
    key = jax.random.key_data(state.key)
    leaves = [key, state.step, *jax.tree.leaves((state.params, state.opt_state))]
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def emit(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)
