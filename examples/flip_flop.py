"""What a trained net does: the fixed points of a GRU that remembers three bits.

    python -m examples.flip_flop --out flip_flop.png

The net learns to keep the last pulse of each of three inputs (Sussillo & Barak 2013). Then its
input is held at 0, and the points are found at which its memory does not move: one stable point for
each of the eight memories, and saddles between them, over which a pulse carries the memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import seqcells as sc
from seqcells import probes
from seqcells.diagnostics import FixedPoints, draw_starts, fixed_points, plot

PROBE = probes.FlipFlop(length=64, bits=3)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(5e-3))


def make(cell: sc.Cell) -> sc.Stack:
    """Return the net: three inputs to three outputs."""
    return sc.Stack((cell, sc.Dense(PROBE.output_size)))


def loss(params: Any, net: sc.Stack, sample: probes.Sample) -> jax.Array:
    """Compute the squared error at every step."""
    _, ys = sc.unroll(net, params, sample.xs)
    return PROBE.score(sample.pick(ys), sample.targets).loss


def train(net: sc.Stack, steps: int, seed: int) -> tuple[Any, jax.Array]:
    """Train on fresh sequences; return the parameters, and the loss of each step."""

    def step(state: tuple[Any, optax.OptState], key: jax.Array):
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params, net, PROBE.sample(key, 64))
        updates, memory = OPTIMIZER.update(gradient, memory)
        return (optax.apply_updates(params, updates), memory), value

    k_params, k_data = jax.random.split(jax.random.key(seed))
    params = net.init(k_params, PROBE.input_size)
    keys = jax.random.split(k_data, steps)
    (params, _), losses = jax.lax.scan(step, (params, OPTIMIZER.init(params)), keys)
    return params, losses


def explore(net: sc.Stack, params: Any, seed: int) -> tuple[FixedPoints, Any]:
    """Find the fixed points with the input at 0; return them, and trajectories of the cell.

    The search starts halfway between memories, since saddles lie between stable points.
    """
    k_sample, k_starts = jax.random.split(jax.random.key(seed + 1))
    cell, xs = net.layers[0], PROBE.sample(k_sample, 64).xs
    carries = sc.trajectory(cell, params[0], xs)
    starts = sum(draw_starts(k, carries, 512, noise=0.2) for k in jax.random.split(k_starts)) / 2
    x = jnp.zeros(PROBE.input_size)
    return fixed_points(cell, params[0], x, starts, distinct=0.1, within=2.0), carries


def main(steps: int = 3000, units: int = 24, seed: int = 0, out: Path | None = None) -> FixedPoints:
    """Train, find the points, and draw them."""
    net = make(sc.GRU(units))
    params, losses = jax.jit(train, static_argnums=(0, 1))(net, steps, seed)
    print(f"error {float(losses[-1]):.4f}, of answering 0: {PROBE.baseline:g}")
    points, carries = explore(net, params, seed)
    for unstable in range(max(points.unstable, default=0) + 1):
        count = int(sum(points.unstable == unstable))
        print(f"{count:3d} points with {unstable} unstable directions")
    if points.failed:
        print(f"{points.failed} starts ended nowhere")
    if out is not None:
        axes = plot.fixed_points(points, carries, params[1].w, components=3)
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.savefig(out, dpi=150)
        print(f"picture: {out}")
    return points


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="steps of training")
    parser.add_argument("--units", type=int, default=24, help="units of the GRU")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data")
    parser.add_argument("--out", type=Path, default=None, help="file of the picture")
    main(**vars(parser.parse_args()))
