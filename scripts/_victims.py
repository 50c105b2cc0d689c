"""Runs in a process of their own, to be hurt there."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from _victim import CONFIG, start
from _watched import Watched, watched

from seqcells._checkpoint import Checkpoints

VICTIM = str(Path(__file__).with_name("_victim.py"))
PATIENCE = 120.0  # seconds that a process may live


@contextlib.contextmanager
def victim(*arguments: object, before: tuple[str, ...] = ()) -> Iterator[Watched]:
    """Run one, which does not outlive its trial."""
    with watched([[*before, sys.executable, VICTIM, *arguments]], PATIENCE) as (one,):
        yield one


@functools.cache
def unbroken() -> tuple[str, float]:
    """Hash of a run that nobody hurts, and its seconds without the imports."""
    with tempfile.TemporaryDirectory() as folder, victim("run", folder) as one:
        one.until("ready")
        begun = time.monotonic()
        return one.until("done"), time.monotonic() - begun


def latest(folder: Path) -> int:
    """Step of the newest checkpoint, 0 without one; a broken one is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved = Checkpoints(folder, CONFIG).load(like=start()[0])
    return 0 if saved is None else saved.step
