"""Start a target, and look at what it leaves."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from scripts.chaos.child import Child, children
from scripts.chaos.model import CONFIG, start
from seqcells._checkpoint import Checkpoints

PATIENCE = 120.0  # seconds after which a target is killed


@contextlib.contextmanager
def target(*arguments: object, prefix: tuple[str, ...] = ()) -> Iterator[Child]:
    """Run `target.py`; it is killed at the exit of the context.

    Args:
        *arguments: of the command line of `target.py`.
        prefix: a command that runs its arguments as a command.
    """
    command = [*prefix, sys.executable, "-m", "scripts.chaos.target", *arguments]
    with children([command], PATIENCE) as (child,):
        yield child


@functools.cache
def undisturbed() -> tuple[str, float]:
    """Return the hash of an undisturbed run, and its seconds without the imports."""
    with tempfile.TemporaryDirectory() as folder, target("run", folder) as child:
        child.wait_for("ready")
        start_time = time.monotonic()
        return child.wait_for("done"), time.monotonic() - start_time


def latest(folder: Path) -> int:
    """Return the step of the newest checkpoint, 0 without one; a broken one is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved = Checkpoints(folder, CONFIG).load(like=start()[0])
    return 0 if saved is None else saved.step
