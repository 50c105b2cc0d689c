"""A forecaster: reads a series, then goes on by itself.

    python -m examples.forecaster

Each series is a sum of two waves with noise. The net learns to say the next value at every step. To
forecast, it reads its own outputs, a step at a time; the example prints its error beside that of
repeating the last value.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import optax

import seqcells as sc

PAST, AHEAD = 80, 20  # steps that are known, and steps to forecast
NET = sc.Residual(sc.Stack((sc.GRU(64), sc.Residual(sc.GRU(64)), sc.Dense(1))))  # adds the change
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


def series(key: jax.Array, rows: int) -> jax.Array:
    """Draw series [T, B, 1] of two waves and noise of a standard deviation of 0.05."""
    k_period, k_phase, k_size, k_noise = jax.random.split(key, 4)
    t = jnp.arange(PAST + AHEAD)[:, None, None]
    period = jax.random.uniform(k_period, (2, rows), minval=6.0, maxval=30.0)
    phase = jax.random.uniform(k_phase, (2, rows), maxval=2 * jnp.pi)
    size = jax.random.uniform(k_size, (2, rows), minval=0.3, maxval=1.0)
    waves = jnp.sum(size * jnp.sin(2 * jnp.pi * t / period + phase), axis=1)
    return (waves + 0.05 * jax.random.normal(k_noise, waves.shape))[..., None]


def loss(params: Any, values: jax.Array) -> jax.Array:
    """Compute the squared error of the next value, at every step."""
    _, ys = sc.unroll(NET, params, values[:-1])
    return jnp.mean(jnp.square(ys - values[1:]))


@jax.jit
def update(params: Any, memory: optax.OptState, key: jax.Array):
    """Take a step of training on fresh series."""
    value, gradient = jax.value_and_grad(loss)(params, series(key, 64))
    updates, memory = OPTIMIZER.update(gradient, memory)
    return optax.apply_updates(params, updates), memory, value


@jax.jit
def forecast(params: Any, past: jax.Array) -> jax.Array:
    """Return the next `AHEAD` values after past [T, B, 1]."""
    carry, ys = sc.unroll(NET, params, past)
    later = sc.closed_loop(NET, params, lambda y: y, ys[-1], AHEAD - 1, carry=carry).ys
    return jnp.concatenate([ys[-1:], later])


def main(steps: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Train; return the errors (root mean square) of the forecast and of the last value."""
    key, k_params, k_test = jax.random.split(jax.random.key(seed), 3)
    params = NET.init(k_params, input_size=1)
    memory = OPTIMIZER.init(params)
    for step in range(steps):
        params, memory, value = update(params, memory, jax.random.fold_in(key, step))
        if (step + 1) % 250 == 0:
            print(f"step {step + 1:5d}  error of the next value {value**0.5:.3f}", flush=True)
    values = series(k_test, 500)
    past, future = values[:PAST], values[PAST:]

    def error(guess: jax.Array) -> float:
        return float(jnp.sqrt(jnp.mean(jnp.square(guess - future))))

    ours, naive = error(forecast(params, past)), error(past[-1:])
    print(f"{AHEAD} steps ahead: error {ours:.3f}, of repeating the last value {naive:.3f}")
    return ours, naive


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="steps of training")
    main(parser.parse_args().steps)
