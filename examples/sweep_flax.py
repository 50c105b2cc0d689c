"""A sweep of your own Flax model: every learning rate, dropout and width, side by side.

    python -m examples.sweep_flax --out runs/sweep_flax

The model is a Flax NNX module with a GRU of seqcells, a LayerNorm and a dropout with its own keys.
Trials of one width are trained by one program. With --out the sweep is stored: a second run resumes
it, or returns what is finished. It needs the extra sweep.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import optax
from flax import nnx

import seqcells as sc
from seqcells import probes

PROBE = probes.DelayedRecall(length=21)


class Model(nnx.Module):
    """Reads a sequence, and answers from the memory after its last step."""

    def __init__(self, width: int, rate: float, rngs: nnx.Rngs):
        self.rnn = sc.nnx.RNN(sc.GRU(width), input_size=PROBE.input_size, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.readout = nnx.Linear(width, PROBE.output_size, rngs=rngs)

    def __call__(self, xs: jax.Array) -> jax.Array:
        """Return the logits of one answer, [1, B, classes]."""
        carry, _ = self.rnn(xs)
        return self.readout(self.dropout(self.norm(carry)))[None]


def make(width: int, rate: float) -> sc.sweep.Task:
    """Make the task of a trial. What changes shapes or the graph is given here."""

    def split(key: jax.Array):
        return nnx.split(Model(width, rate, nnx.Rngs(key)), nnx.Param, ...)

    graph = nnx.eval_shape(lambda: split(jax.random.key(0)))[0]

    def loss(variables, key, hparams):
        model = nnx.merge(graph, *variables)
        sample = PROBE.sample(key, 32, lag=20)
        score = PROBE.score(model(sample.xs), sample.targets)
        state = nnx.split(model, nnx.Param, ...)[2]  # the dropout has counted its keys
        return score.loss, {"accuracy": score.accuracy}, state

    def init(key, hparams):
        return sc.train.Variables(*split(key)[1:])

    def optimizer(hparams):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hparams["lr"]))

    return sc.sweep.from_loss(loss, init, optimizer)


def main(steps: int = 400, seeds: int = 3, out: Path | None = None) -> sc.sweep.Result:
    """Run the sweep and print the best configurations."""
    space = sc.sweep.Space(
        lr=sc.sweep.log(1e-3, 3e-2, 4),
        seed=range(seeds),
        static={"width": [16, 32], "rate": [0.0, 0.1]},
    )
    result = sc.sweep.run(make, space, steps=steps, segment=steps // 4, out=out)
    print(f"{len(result.rows)} trials; guessing costs {PROBE.baseline:.2f}")
    for row in result.ranked()[:5]:
        shown = {name: row[name] for name in ("width", "rate", "lr", "mean", "low", "high")}
        print({name: float(f"{value:.3g}") for name, value in shown.items()})
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400, help="training steps of each trial")
    parser.add_argument("--out", type=Path, default=None, help="folder in which it is stored")
    arguments = parser.parse_args()
    main(arguments.steps, out=arguments.out)
