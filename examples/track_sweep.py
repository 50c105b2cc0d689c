"""A sweep whose curves TensorBoard, MLflow or Weights & Biases show while it is running.

    python -m examples.track_sweep --tensorboard runs/tensorboard
    python -m examples.track_sweep --mlflow sqlite:///mlflow.db --wandb seqcells

It trains 8 configurations with 3 seeds each. `examples/trackers.py` says what a run of a tracker
is. Install tensorboardX, mlflow or wandb. Then look at the curves:

    tensorboard --logdir runs/tensorboard
    mlflow ui --backend-store-uri sqlite:///mlflow.db
    wandb sync wandb/offline-run-*
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

import seqcells as sc
from examples.trackers import Tracker, mlflow, tensorboard, wandb

PROBE = sc.probes.DelayedRecall(length=11)


def make(width: int) -> sc.sweep.Task:
    """Make the task of a trial: a GRU that recalls a cue."""
    net = sc.Stack((sc.GRU(width), sc.Dense(PROBE.output_size)))

    def loss(params, key, hparams):
        sample = PROBE.sample(key, 32, lag=10)
        _, ys = sc.unroll(net, params, sample.xs)
        score = PROBE.score(sample.pick(ys), sample.targets)
        return score.loss, {"accuracy": score.accuracy}

    return sc.sweep.from_loss(loss, lambda key, hparams: net.init(key, PROBE.input_size))


def main(
    trackers: Sequence[Tracker], steps: int = 400, seeds: int = 3, out: Path | None = None
) -> sc.sweep.Result:
    """Run the sweep, log it to the trackers, and close them."""
    space = sc.sweep.Space(
        static={"width": [8, 16]}, learning_rate=sc.sweep.log(1e-3, 3e-2, 4), seed=range(seeds)
    )

    def on_segment(progress: sc.sweep.Progress) -> None:
        for tracker in trackers:
            tracker(progress)

    with contextlib.ExitStack() as stack:
        for tracker in trackers:
            stack.enter_context(tracker)
        return sc.sweep.run(make, space, steps, segment=steps // 20, out=out, on_segment=on_segment)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tensorboard", metavar="FOLDER", help="folder of event files")
    parser.add_argument("--mlflow", metavar="URI", help="database, such as sqlite:///mlflow.db")
    parser.add_argument("--wandb", metavar="PROJECT", help="project of offline runs, in ./wandb")
    parser.add_argument("--each", action="store_true", help="log a run for each trial")
    parser.add_argument("--steps", type=int, default=400, help="training steps of each trial")
    parser.add_argument("--out", type=Path, default=None, help="folder in which it is stored")
    given = parser.parse_args()
    kinds = {tensorboard: given.tensorboard, mlflow: given.mlflow, wandb: given.wandb}
    chosen = [kind(place, each=given.each) for kind, place in kinds.items() if place]
    for row in main(chosen, given.steps, out=given.out).ranked()[:5]:
        print({name: row[name] for name in ("width", "learning_rate", "mean", "low", "high")})
