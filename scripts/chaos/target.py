"""The process under test: a run, a sweep, or saves that fill a disk.

`run FOLDER [STEPS]`, `sweep FOLDER [SCALE]`, `spread FOLDER ENGINE [WORKERS]`, `search FOLDER
STORAGE` and `fill FOLDER SIZE [limited]` print a line for each event: ready, at STEP, saved STEP,
refused WHY, loaded STEP, done HASH.
"""

from __future__ import annotations

import functools
import hashlib
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

import seqcells as sc
from scripts.chaos.engines import ENGINES
from scripts.chaos.model import CONFIG, descent, digest, emit, loss, make, start
from seqcells import _signals
from seqcells._checkpoint import CheckpointError, Checkpoints

SPREAD_STEPS = 1000  # of the trials that workers train


def run(folder: str, steps: str = "100") -> int:
    """Train from the last checkpoint, if there is one; save after every segment."""
    checkpoints = Checkpoints(folder, CONFIG)
    state, hparams = start()

    def on_segment(state: sc.train.TrainState, _: object) -> bool:
        checkpoints.save(int(state.step), state)
        emit("saved", int(state.step))
        return bool(stop)

    emit("ready")
    with checkpoints.lock(), _signals.deferred() as stop:
        saved = checkpoints.load(like=state)
        state = state if saved is None else saved.tree
        left = int(steps) - int(state.step)
        emit("at", int(state.step))
        if left:
            segment = CONFIG["segment"]
            state, _ = sc.train.fit(
                loss, state, hparams, left, segment=segment, on_segment=on_segment
            )
    if not stop:
        emit("done", digest(state))
    return stop.exit_code


def fill(folder: str, size: str, limited: str = "") -> int:
    """Save `size` bytes until the disk is full, or until files are limited; then load."""
    half = int(size) // 2
    tree = {"a": np.zeros(half, np.uint8), "b": np.ones(half, np.uint8)}
    try:
        for step in range(100):
            Checkpoints(folder, CONFIG).save(step, tree)
            emit("saved", step)
            if limited and step == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (half // 2, resource.RLIM_INFINITY))
    except CheckpointError:
        saved = Checkpoints(folder, CONFIG).load(tree)
        if saved is not None and all(np.array_equal(saved.tree[key], tree[key]) for key in tree):
            emit("loaded", saved.step)
        raise
    return 0


def sweep(folder: str, scale: str = "1") -> int:
    """Train three batches of eight trials with the loss times `scale`, resuming if killed."""
    space = sc.sweep.Space(learning_rate=sc.sweep.log(1e-3, 1e-1, 6), seed=range(4))
    return _sweep(folder, space, 40, make=functools.partial(make, float(scale)))


def spread(folder: str, engine: str, workers: str = "2") -> int:
    """Have 16 batches of eight trials trained by workers; `here` means by this process."""
    space = sc.sweep.Space(learning_rate=sc.sweep.log(1e-3, 1e-1, 4), seed=range(32))
    with ENGINES[engine](Path(folder), int(workers)) as options:
        return _sweep(folder, space, SPREAD_STEPS, make=make, **options)


def search(folder: str, storage: str) -> int:
    """Search in 16 batches of eight proposals, with two replicates; some trials diverge."""
    from scripts.chaos.studies import study_of  # Optuna, which the other rows do not need

    emit("ready")
    Path(folder).mkdir(parents=True, exist_ok=True)
    study = study_of(Path(folder), storage)
    rate, gain = sc.sweep.log_uniform(1e-3, 1e2), sc.sweep.uniform(0.5, 2)
    result = sc.sweep.search(
        descent,
        sc.sweep.Space(samples=128, rate=rate, gain=gain, static={"size": [2, 4]}),
        study,
        steps=40,
        segment=10,
        batch=8,
        replicates=2,
        out=Path(folder) / "out",
        save_seconds=0,
        on_segment=lambda progress: emit("at", progress.step),
    )
    told = [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in study.trials]
    return _done(result, told)


def _sweep(folder: str, space: sc.sweep.Space, steps: int, **options: Any) -> int:
    options = {"save_seconds": 0} | options
    emit("ready")
    result = sc.sweep.run(
        space=space,
        steps=steps,
        segment=CONFIG["segment"],
        batch=8,
        **options,
        out=Path(folder),
        on_segment=lambda progress: emit("at", progress.step),
    )
    return _done(result)


def _done(result: sc.sweep.Result, further: object = ()) -> int:
    """Print the hash of a table, its history and what else there is."""
    rows = [{n: v for n, v in row.items() if n != "seconds"} for row in result.rows]
    lines = sorted(map(str, result.history))
    emit("done", hashlib.sha256(str((rows, lines, further)).encode()).hexdigest())
    return 0


TARGETS = {one.__name__: one for one in (run, sweep, spread, search, fill)}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    try:
        sys.exit(TARGETS[name](*arguments))
    except CheckpointError as error:
        emit("refused", error)
        sys.exit(1)
