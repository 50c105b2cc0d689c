"""Processes that are hurt, seen from outside."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from _victim import CONFIG, start

from seqcells._checkpoint import Checkpoints

VICTIM = str(Path(__file__).with_name("_victim.py"))
PATIENCE = 120.0  # seconds that a process may live


class Victim:
    """A process that is hurt, and the lines it has said."""

    def __init__(self, *arguments: object, before: tuple[str, ...] = ()) -> None:
        command = [*before, sys.executable, VICTIM, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.bound = threading.Timer(PATIENCE, self.process.kill)
        self.bound.start()
        self.lines: list[str] = []

    def read(self) -> Iterator[str]:
        """Lines as they are said, until it has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            yield line.strip()

    def until(self, word: str) -> str:
        """Read lines until one begins with `word`; return the rest of it."""
        for line in self.read():
            if line.split()[:1] == [word]:
                return line.removeprefix(word).strip()
        raise RuntimeError("\n".join([f"ended before it said {word!r}:", *self.lines]))

    def end(self) -> int:
        """Wait until it has ended, and return the exit code."""
        list(self.read())
        return self.process.wait()

    def said(self, word: str) -> list[str]:
        """What followed `word`, every time."""
        return [line.removeprefix(word).strip() for line in self.lines if line.startswith(word)]

    def stop(self) -> None:
        """End it if it has not."""
        self.bound.cancel()
        self.process.kill()
        with self.process:  # closes its pipe and waits
            pass


@contextlib.contextmanager
def victim(*arguments: object, before: tuple[str, ...] = ()) -> Iterator[Victim]:
    """A process that does not outlive its trial."""
    one = Victim(*arguments, before=before)
    try:
        yield one
    finally:
        one.stop()


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
