"""A learner on a stream whose task changes, without a backward pass through time.

    python -m examples.online_learner

At every step the net reads a bit and says which bit it read a few steps before: 3 steps at first,
and 6 after half of the stream. It updates its parameters as it reads, and keeps nothing of the past
but a trace of constant size. Three rules learn side by side: the exact gradient (RTRL), the one in
which a unit's influence reaches that unit alone (SnAp-1), and one that ignores the past of the
carry, as backpropagation through a single step does.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqcells as sc

ROWS, LAGS = 16, (3, 6)  # streams that are read side by side, and how far back the answer lies
CELL = sc.GRU(12)
READOUT = sc.Stack((sc.Dense(32, "relu"), sc.Dense(1)))
OPTIMIZER = optax.adam(3e-3)


class OneStep(sc.online.RTRL):
    """A rule that forgets the influence of all steps but the last one."""

    def step(self, params: Any, trace: Any, *args: Any, **options: Any) -> Any:
        """Take a step from a trace without influence."""
        nothing = jax.tree.map(jnp.zeros_like, trace.influence)
        return super().step(params, trace._replace(influence=nothing), *args, **options)


@dataclasses.dataclass(frozen=True)
class Data:
    """A stream of bits; a step is drawn from its number alone, so a stream can be resumed."""

    seed: int
    change: int  # the step from which on the answer lies further back

    def bits(self, step: jax.Array) -> jax.Array:
        """Draw the bits of a step, float[ROWS, 1]."""
        key = jax.random.fold_in(jax.random.key(self.seed), step)
        return jax.random.bernoulli(key, shape=(ROWS, 1)).astype(jnp.float32)

    def __call__(self, key: jax.Array, step: jax.Array) -> sc.train.Example:
        """Return what is read at a step, and what is to be said."""
        lag = jnp.where(step < self.change, *LAGS)
        scored = jnp.broadcast_to(step >= lag, (ROWS,))
        return sc.train.Example(2 * self.bits(step) - 1, self.bits(step - lag), scored)


def loss(output: jax.Array, target: jax.Array) -> jax.Array:
    """Compute the cross entropy of each row; guessing costs ln 2 = 0.69."""
    return optax.sigmoid_binary_cross_entropy(output, target)[..., 0]


def learn(rule: sc.online.Rule, steps: int, seed: int = 0) -> np.ndarray:
    """Read the stream; return the loss of every step."""
    learner = sc.train.stream(rule, loss, READOUT, OPTIMIZER)
    state = learner.init(jax.random.key(seed), jnp.zeros((ROWS, 1)))
    _, metrics = learner.fit(state, Data(seed, steps // 2), steps, segment=1000)
    return np.nan_to_num(metrics["loss"], nan=np.log(2))


def main(steps: int = 20_000, seed: int = 0) -> dict[str, np.ndarray]:
    """Learn by each rule; return the mean losses of ten parts of the stream."""
    rules = {
        "RTRL": sc.online.RTRL(CELL),
        "SnAp-1": sc.online.SnAp(CELL),
        "one step": OneStep(CELL),
    }
    losses = {name: learn(rule, steps, seed) for name, rule in rules.items()}
    parts = {n: np.array([p.mean() for p in np.array_split(a, 10)]) for n, a in losses.items()}
    print(f"loss; guessing costs {np.log(2):.2f}")
    print("up to step" + "".join(f"{name:>10}" for name in parts))
    for part in range(10):
        row = "".join(f"{losses[part]:10.3f}" for losses in parts.values())
        note = f"  the answer now lies {LAGS[1]} steps back" if part == 5 else ""
        print(f"{(part + 1) * steps // 10:10d}{row}{note}")
    return parts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20_000, help="steps of the stream")
    main(parser.parse_args().steps)
