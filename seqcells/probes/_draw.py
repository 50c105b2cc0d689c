"""Random draws in int32 and float32, equal with and without `jax_enable_x64`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check


def integers(key: jax.Array, shape: Sequence[int], low: ArrayLike, high: ArrayLike) -> jax.Array:
    """Draw int32 from `low` to below `high`."""
    return jax.random.randint(key, shape, low, high, jnp.int32)


def uniform(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Draw float32 from 0 to below 1."""
    return jax.random.uniform(key, shape, jnp.float32)


def distinct(key: jax.Array, high: int, count: int, p: jax.Array | None = None) -> jax.Array:
    """Draw int32[count] below `high` without replacement; p: float32[high], the probabilities."""
    return jax.random.choice(key, high, (count,), replace=False, p=p).astype(jnp.int32)


def one_hot(symbols: jax.Array, size: int) -> jax.Array:
    """Return float32[..., size], all zeros for a symbol outside of 0 to size - 1."""
    return jax.nn.one_hot(symbols, size, dtype=jnp.float32)


def steps(*bounds: int) -> jax.Array:
    """Return int32[T, 1], the steps of `range(*bounds)`, to broadcast over sequences."""
    return jnp.arange(*bounds, dtype=jnp.int32)[:, None]


def knob(name: str, value: ArrayLike | None, low: int, high: int) -> jax.Array:
    """Check an argument of `sample`, an int[] that may be traced; None gives `high`.

    A traced value is clipped to `low` to `high`.

    Raises:
        TypeError: it is not one integer.
        ValueError: it is concrete and outside of `low` to `high`.
    """
    value = high if value is None else value
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        got = _check.describe_one(jnp.asarray(value))
        raise TypeError(f"{name}: expected one int, got {got}; use jax.vmap for several")
    _check.within(name, value, low, high, f"{low} to {high} steps")
    return jnp.clip(jnp.asarray(value, jnp.int32), low, high)


def check(key: jax.Array, batch_size: int) -> None:
    """Check the arguments that every `sample` has."""
    _check.key("key", key)
    _check.size("batch_size", batch_size, least=1)
