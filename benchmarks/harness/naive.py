"""The recurrent networks that a competent user writes by hand: one `jax.lax.scan`, fused products.

Parameters are the fields of seqcells' own NamedTuples, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.harness.problem import Params

Pair = tuple[jax.Array, jax.Array]
Products = Callable[[jax.Array, jax.Array], Pair]  # (x, h) -> products of the input and of h


def rnn(products: Products, h: jax.Array, x: jax.Array, axis: int = -1) -> Pair:
    """Take a step of an RNN; returns the carry and the output."""
    of_x, of_h = products(x, h)
    h = jnp.tanh(of_x + of_h)
    return h, h


def gru(products: Products, h: jax.Array, x: jax.Array, axis: int = -1) -> Pair:
    """Take a step of a GRU that resets after the product; z is the fraction that is written."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (jnp.split(a, 3, axis) for a in products(x, h))
    r = jax.nn.sigmoid(x_r + h_r)
    z = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * h_n)
    h = (1 - z) * h + z * n
    return h, h


def lstm(products: Products, carry: Pair, x: jax.Array, axis: int = -1) -> tuple[Pair, jax.Array]:
    """Take a step of an LSTM without peepholes."""
    h, c = carry
    of_x, of_h = products(x, h)
    i, f, g, o = jnp.split(of_x + of_h, 4, axis)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


STEPS: dict[str, Callable[..., Any]] = {"RNN": rnn, "GRU": gru, "LSTM": lstm}


def rows(params: Params) -> Products:
    """Return the products of x [B, D] and h [B, H]."""
    w, u, b, *rest = params
    c = rest[0] if rest else None
    return lambda x, h: (x @ w + b, h @ u if c is None else h @ u + c)


def columns(params: Params) -> Products:
    """Return the products of x [D, B] and h [H, B], with matrices that are transposed once."""
    w, u, b, *rest = params
    w, u, c = w.T, u.T, rest[0] if rest else None
    return lambda x, h: (w @ x + b[:, None], u @ h if c is None else u @ h + c[:, None])


def joined(params: Params) -> Products:
    """Return one product of (x, h), and None; for gates that read only the sum."""
    w, u, b = params[:3]
    both = jnp.concatenate([w, u])
    return lambda x, h: (jnp.concatenate([x, h], axis=-1) @ both + b, jnp.zeros(()))


def unroll(
    kind: str,
    params: Params,
    xs: jax.Array,
    products: Callable[[Params], Products] = rows,
    *,
    steps: int = 1,
    remat: bool = False,
) -> jax.Array:
    """Run a cell over xs [T, B, D]; returns ys [T, B, H].

    Args:
        kind: "RNN", "GRU" or "LSTM".
        params: its weights.
        xs: the inputs.
        products: `rows`, `columns` or `joined`.
        steps: steps per iteration of the loop.
        remat: whether the backward pass recomputes each step from its carry.
    """
    turned = products is columns
    multiply, axis = products(params), 0 if turned else -1
    xs = jnp.swapaxes(xs, 1, 2) if turned else xs
    size = xs.shape[2 if turned else 1], params[1].shape[0]
    zeros = jnp.zeros(size[::-1] if turned else size, xs.dtype)

    def step(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        return STEPS[kind](multiply, carry, x, axis)

    body = jax.checkpoint(step, prevent_cse=False) if remat else step
    ys = jax.lax.scan(body, (zeros, zeros) if kind == "LSTM" else zeros, xs, unroll=steps)[1]
    return jnp.swapaxes(ys, 1, 2) if turned else ys
