"""A net that becomes a chaotic system: Lorenz's butterfly, learned from its trajectories.

    python -m examples.forecast_lorenz --out lorenz.png

No forecast of a chaotic system is right for long: a small error grows by a factor e in about one
unit of time. A good model has the same attractor. In training, the memory is mixed at each step
with the closest one that shows the true state (generalised teacher forcing, Hess et al. 2023), so
that gradients do not explode. Then the net runs freely, and its Lyapunov exponents, the dimension
of its attractor and the places that it visits are compared with those of the system.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc
from seqcells import diagnostics, probes

LORENZ = probes.Lorenz63(length=60, dt=0.02)
UNITS, ALPHA = 48, 0.15  # of the net; the teacher's share of its memory
CELL = sc.GRU(UNITS)
FREE = 5000  # steps that the trained net runs
Params = dict[str, Any]


def init(key: jax.Array) -> Params:
    """Make the parameters: a cell without inputs, and a linear readout of three variables."""
    k_cell, k_readout = jax.random.split(key)
    w = jax.random.normal(k_readout, (UNITS, 3)) / UNITS**0.5
    return {"cell": CELL.init(k_cell, 0), "readout": w}


def run(params: Params, y0: jax.Array, steps: int, **teacher: Any) -> sc.ClosedLoop:
    """Run from the smallest memory that shows y0."""
    w = params["readout"]

    def closest(y: jax.Array, h: jax.Array) -> jax.Array:
        return h + (y - h @ w) @ jnp.linalg.pinv(w)

    if teacher:
        teacher |= {"inverse": closest}
    carry = closest(y0, jnp.zeros((*y0.shape[:-1], UNITS)))
    return sc.closed_loop(
        CELL,
        params["cell"],
        lambda h: h @ w,
        y0,
        steps,
        carry=carry,
        feed=lambda y: y[..., :0],  # the net has no inputs
        **teacher,
    )


def loss(params: Params, key: jax.Array) -> jax.Array:
    """Compute the squared error of each step of fresh trajectories."""
    sample = LORENZ.sample(key, 16)
    ys = run(params, sample.xs[0], LORENZ.length, force=sample.targets, alpha=ALPHA).ys
    return LORENZ.score(ys, sample.targets).loss


def train(steps: int, seed: int) -> tuple[Params, jax.Array]:
    """Train; return the parameters, and the loss of each step."""
    schedule = optax.cosine_decay_schedule(5e-3, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def step(state: tuple[Params, optax.OptState], key: jax.Array):
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, memory = optimizer.update(gradient, memory)
        new: Any = optax.apply_updates(params, updates)
        return (new, memory), value

    k_params, k_data = jax.random.split(jax.random.key(seed))
    params = init(k_params)
    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(step, start, jax.random.split(k_data, steps))
    return params, losses


def draw(data: np.ndarray, ours: np.ndarray, out: Path) -> None:
    """Draw both attractors, z over x."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 4.5), sharex=True, sharey=True)
    for axes, states, title in zip(panels, (data, ours), ("Lorenz's system", "GRU"), strict=True):
        axes.plot(states[:, 0], states[:, 2], lw=0.4)
        axes.set(title=title, xlabel="x (scaled)", ylabel="z (scaled)")
    figure.tight_layout()
    figure.savefig(out, dpi=150)
    print(f"picture: {out}")


def main(steps: int = 3000, seed: int = 0, out: Path | None = None) -> tuple[float, np.ndarray]:
    """Train, run freely, and compare; return the divergence and the exponents of the net."""
    params, losses = jax.jit(train, static_argnums=0)(steps, seed)
    print(f"error of a step, with the teacher: {float(losses[-1]):.1e}")
    long = probes.Lorenz63(length=FREE, dt=LORENZ.dt).sample(jax.random.key(seed + 1), 1)
    data = np.asarray(long.xs[:, 0])
    loop = jax.jit(run, static_argnums=2)(params, long.xs[0, 0], FREE)
    divergence = float(diagnostics.state_space_divergence(data, loop.ys))
    nothing = jnp.zeros((FREE, 0))
    spectrum = jax.jit(diagnostics.lyapunov_exponents, static_argnums=(0, 3))
    exponents = spectrum(CELL, params["cell"], nothing, 3, carry=loop.carry) / LORENZ.dt
    for name, known in (("system", np.array(LORENZ.EXPONENTS)), ("net", np.asarray(exponents))):
        dimension = float(diagnostics.kaplan_yorke_dimension(known))
        rounded = ", ".join(f"{exponent:.2f}" for exponent in known)
        print(f"{name:>6}: exponents {rounded} per unit of time, dimension {dimension:.2f}")
    print(f"divergence of the attractors: {divergence:.2f} nats")
    if out is not None:
        draw(data, np.asarray(loop.ys), out)
    return divergence, np.asarray(exponents)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000, help="steps of training")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data")
    parser.add_argument("--out", type=Path, default=None, help="file of the picture")
    main(**vars(parser.parse_args()))
