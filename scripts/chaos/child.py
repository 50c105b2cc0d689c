"""Child processes: their lines of output, and their ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Child:
    """A process, and the lines that it has printed.

    Args:
        command: the command to run; it can import `scripts`.
        patience: seconds after which it is killed.
    """

    def __init__(self, command: Sequence[object], patience: float) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.lines: list[str] = []
        self.ended: float | None = None  # a time of `time.monotonic`
        self._read_by_wait_for = 0  # lines
        self._change = threading.Condition()
        self._timer = threading.Timer(patience, self.process.kill)
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
def children(commands: Sequence[Sequence[object]], patience: float) -> Iterator[list[Child]]:
    """Run commands at once; kill what has not ended at the exit of the context."""
    running: list[Child] = []
    try:
        for command in commands:
            running.append(Child(command, patience))
        yield running
    finally:
        for child in running:
            child.stop()
