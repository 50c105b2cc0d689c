"""Small problems that the tests of training share."""

import jax
import jax.numpy as jnp
import optax

import seqcells as sc
from seqcells import train

KEY = jax.random.key(0)
CELL = sc.GRU(3)
XS = jnp.sin(jnp.arange(20.0)).reshape(5, 2, 2)
BASE = train.HParams(learning_rate=0.01)


def loss(params, key, hparams):
    """A small recurrent problem with noise, and one further metric."""
    _, ys = sc.unroll(CELL, params, XS + 0.1 * jax.random.normal(key, XS.shape))
    value = jnp.mean(jnp.square(ys - 0.5))
    return value, {"largest": jnp.max(jnp.abs(ys))}


def as_arrays(hparams):
    return jax.tree.map(jnp.float32, hparams)


def start(hparams=None, seed=0, optimizer=train.adamw):
    hparams = as_arrays(BASE) if hparams is None else hparams
    params = CELL.init(jax.random.key(seed), 2)
    return train.init(params, hparams, jax.random.key(seed + 100), optimizer), hparams


def bits(state):
    """A state whose key can be compared."""
    return state._replace(key=jax.random.key_data(state.key))


def square(params, key, hparams):
    return jnp.sum(jnp.square(params.astype(jnp.float32))), {}


def quadratic(params, key, hparams):
    return 0.5 * jnp.sum(hparams["curvature"] * jnp.square(params)), {}


def sgd(hparams):
    return optax.sgd(hparams["rate"], momentum=0.9)
