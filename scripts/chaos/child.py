"""Child processes, such as the target: their output, their exit, their checkpoints."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.chaos.model import CONFIG, start
from seqcells._checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds after which a process is killed


class Child:
    """A process, and the lines that it has printed.

    Args:
        command: the command to run; it can import `scripts`.
    """

    def __init__(self, command: Sequence[object]) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": path},
        )
        self.lines: list[str] = []
        self.ended: float | None = None  # a time of `time.monotonic`
        self._read_by_wait_for = 0  # lines
        self._change = threading.Condition()
        self._timer = threading.Timer(PATIENCE, self.process.kill)
        self._reader = threading.Thread(target=self._read)
        self._timer.start()
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._change:
                self.lines.append(line.strip())
                self._change.notify_all()
        self.process.wait()
        with self._change:
            self.ended = time.monotonic()
            self._change.notify_all()

    def wait_for(self, word: str) -> str:
        """Wait for the next line that begins with `word`; return the rest of it."""
        with self._change:
            while True:
                for line in self.lines[self._read_by_wait_for :]:
                    self._read_by_wait_for += 1
                    if line.split()[:1] == [word]:
                        return line.removeprefix(word).strip()
                if self.ended is not None:
                    lines = "\n".join(self.lines)
                    raise RuntimeError(f"ended before it printed {word!r}:\n{lines}")
                self._change.wait()

    def wait(self) -> int:
        """Wait until it has ended; return the exit code."""
        self._reader.join()
        return self.process.wait()

    def printed(self, word: str) -> list[str]:
        """Return the rest of every line that begins with `word`."""
        return [line.removeprefix(word).strip() for line in self.lines if line.startswith(word)]

    def stop(self) -> None:
        """Kill it if it has not ended."""
        self._timer.cancel()
        self.process.kill()
        self._reader.join()
        with self.process:  # closes its pipe
            pass


@contextlib.contextmanager
def children(commands: Sequence[Sequence[object]]) -> Iterator[list[Child]]:
    """Run commands in parallel; when the context exits, kill those that still run."""
    running: list[Child] = []
    try:
        for command in commands:
            running.append(Child(command))
        yield running
    finally:
        for child in running:
            child.stop()


@contextlib.contextmanager
def target(*arguments: object, prefix: tuple[str, ...] = ()) -> Iterator[Child]:
    """Run `target.py`; it is killed when the context exits.

    Args:
        *arguments: the command line arguments of `target.py`.
        prefix: a command that runs its arguments as a command.
    """
    command = [*prefix, sys.executable, "-m", "scripts.chaos.target", *arguments]
    with children([command]) as (child,):
        yield child


@functools.cache
def undisturbed() -> tuple[str, float]:
    """Return the hash of an undisturbed run, and its duration without imports, in seconds."""
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
