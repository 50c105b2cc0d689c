"""What `chaos.py` hurts: a run, a sweep, and what fills a disk.

`run FOLDER [STEPS]`, `sweep FOLDER [nan]` and `fill FOLDER SIZE [limited]` say a line at every
turn: ready, at STEP, saved STEP, refused WHY, loaded STEP, done HASH.
"""

from __future__ import annotations

import hashlib
import resource
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from seqcells import _signals
from seqcells._checkpoint import CheckpointError, Checkpoints

CONFIG = {"cell": {"name": "RNN", "hidden_size": 4}, "learning_rate": 0.01, "segment": 5}
CELL = sc.RNN(4)


def loss(params: Any, key: jax.Array, hparams: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Remember the first of 8 inputs."""
    del hparams
    xs = jax.random.normal(key, (8, 4, 2))
    _, ys = sc.unroll(CELL, params, xs)
    return jnp.mean(jnp.square(ys[-1, :, 0] - xs[0, :, 0])), {}


@jax.jit  # one program starts sooner than many small ones
def start() -> tuple[sc.train.TrainState, sc.train.HParams]:
    """State and hyperparameters before the first step."""
    hparams = sc.train.HParams(learning_rate=CONFIG["learning_rate"])
    params = CELL.init(jax.random.key(0), input_size=2)
    return sc.train.init(params, hparams, jax.random.key(1)), hparams


def digest(state: sc.train.TrainState) -> str:
    """SHA-256 of all numbers of a state."""
    leaves = [jax.random.key_data(state.key), *jax.tree.leaves(state._replace(key=None))]
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def run(folder: Path, steps: int) -> int:
    """Train, saving every segment; go on from what is there."""
    checkpoints = Checkpoints(folder, CONFIG)
    state, hparams = start()

    def on_segment(state: sc.train.TrainState, _: Any) -> bool:
        checkpoints.save(int(state.step), state)
        say("saved", int(state.step))
        return bool(stop)

    say("ready")
    with checkpoints.lock(), _signals.deferred() as stop:
        saved = checkpoints.load(like=state)
        state = state if saved is None else saved.tree
        left = steps - int(state.step)
        say("at", steps - left)
        if left:
            segment = CONFIG["segment"]
            state, _ = sc.train.fit(
                loss, state, hparams, left, segment=segment, on_segment=on_segment
            )
    if not stop:
        say("done", digest(state))
    return stop.exit_code


def fill(folder: Path, size: int, limited: bool) -> int:
    """Save `size` bytes until the disk is full, or until files are limited; then load."""
    tree = {"a": np.zeros(size // 2, np.uint8), "b": np.ones(size // 2, np.uint8)}
    try:
        for step in range(100):
            Checkpoints(folder, CONFIG).save(step, tree)
            say("saved", step)
            if limited and step == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, resource.RLIM_INFINITY))
    except CheckpointError:
        saved = Checkpoints(folder, CONFIG).load(tree)
        if saved is not None and all(np.array_equal(saved.tree[key], tree[key]) for key in tree):
            say("loaded", saved.step)
        raise
    return 0


def sweep(folder: Path, scale: float) -> int:
    """Train three batches of eight trials with a loss of this scale; go on from what is there."""

    def scaled(params: Any, key: jax.Array, hparams: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return scale * loss(params, key, hparams)[0], {}

    def make() -> sc.sweep.Task:
        return sc.sweep.from_loss(scaled, lambda key, _: CELL.init(key, input_size=2))

    space = sc.sweep.Space(learning_rate=sc.sweep.log(1e-3, 1e-1, 6), seed=range(4))
    options = {"segment": CONFIG["segment"], "batch": 8, "save_seconds": 0}
    say("ready")
    result = sc.sweep.run(
        make, space, 40, out=folder, on_segment=lambda p: say("at", p.step), **options
    )
    rows = [{n: v for n, v in row.items() if n != "seconds"} for row in result.rows]
    lines = sorted(map(str, result.history))
    say("done", hashlib.sha256(str((rows, lines)).encode()).hexdigest())
    return 0


def say(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)


if __name__ == "__main__":
    try:
        what, folder, *rest = sys.argv[1:]
        if what == "run":
            sys.exit(run(Path(folder), int(rest[0]) if rest else 100))
        if what == "sweep":
            sys.exit(sweep(Path(folder), float(rest[0]) if rest else 1.0))
        sys.exit(fill(Path(folder), int(rest[0]), rest[1:] == ["limited"]))
    except CheckpointError as error:
        say("refused", error)
        sys.exit(1)
