"""The recurrent networks that a competent user writes by hand: one `jax.lax.scan`, fused products.

Parameters are the fields of seqcells' own NamedTuples, in the same order.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from benchmarks.harness.problem import Params

Pair = tuple[jax.Array, jax.Array]


def rnn(params: Params, h: jax.Array, x: jax.Array) -> Pair:
    """Take a step of an RNN; returns the carry and the output."""
    w, u, b = params
    h = jnp.tanh(x @ w + h @ u + b)
    return h, h


def gru(params: Params, h: jax.Array, x: jax.Array) -> Pair:
    """Take a step of a GRU that resets after the product; z is the fraction that is written."""
    w, u, b, c = params
    x_r, x_z, x_n = jnp.split(x @ w + b, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ u + c, 3, axis=-1)
    r = jax.nn.sigmoid(x_r + h_r)
    z = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * h_n)
    h = (1 - z) * h + z * n
    return h, h


def lstm(params: Params, carry: Pair, x: jax.Array) -> tuple[Pair, jax.Array]:
    """Take a step of an LSTM without peepholes."""
    w, u, b, _ = params
    h, c = carry
    i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


STEPS = {"RNN": rnn, "GRU": gru, "LSTM": lstm}


def unroll(kind: str, params: Params, xs: jax.Array) -> jax.Array:
    """Run a cell over xs [T, B, D]; returns ys [T, B, H]."""
    zeros = jnp.zeros((xs.shape[1], params[1].shape[0]), xs.dtype)
    carry = (zeros, zeros) if kind == "LSTM" else zeros
    return jax.lax.scan(functools.partial(STEPS[kind], params), carry, xs)[1]
