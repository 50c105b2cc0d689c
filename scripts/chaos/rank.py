"""One of several processes under test, which train one model: `FOLDER HANG RANK`.

HANG is never, sleep (Python's lock is free) or locked (Python's lock is held); the process RANK
hangs in the third segment. Each prints a line for each event: saved STEP, done HASH.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import jax

import seqcells as sc
from scripts.chaos.model import CONFIG, digest, emit, loss, start
from seqcells._checkpoint import Checkpoints

STEPS = 60


def fit(folder: Path, hang: str, rank: int) -> None:
    """Train one model in all processes; the first one saves."""
    checkpoints, first = Checkpoints(folder, CONFIG), jax.process_index() == 0
    state, hparams = start()
    saved = checkpoints.load(like=state)
    state = state if saved is None else saved.tree

    def on_segment(state: sc.train.TrainState, _: object) -> None:
        if first:
            checkpoints.save(int(state.step), state)
        after_segment(int(state.step), hang, rank)

    left, mesh = STEPS - int(state.step), jax.make_mesh((jax.device_count(),), ("data",))
    if left:
        state, _ = sc.train.fit(
            loss, state, hparams, left, segment=CONFIG["segment"], mesh=mesh, on_segment=on_segment
        )
    emit("done", digest(state))


def after_segment(step: int, hang: str, rank: int) -> None:
    """Print the step, and hang after the third segment if this process has this rank."""
    emit("saved", step)
    if jax.process_index() == rank and step == 3 * CONFIG["segment"]:
        if hang == "sleep":
            time.sleep(1000)
        if hang == "locked":
            ctypes.PyDLL(None).sleep(1000)  # keeps Python's lock


if __name__ == "__main__":
    folder, hang, rank = sys.argv[1:]
    fit(Path(folder), hang, int(rank))
