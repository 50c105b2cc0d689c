"""A process that is hurt, seen from outside."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence


class Watched:
    """A process, and the lines it has said.

    Args:
        command: what is run.
        patience: seconds that it may live.
    """

    def __init__(self, command: Sequence[object], patience: float) -> None:
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.ended: float | None = None  # when, as `time.monotonic` tells time
        self._heard = 0  # lines that `until` has looked at
        self._news = threading.Condition()
        self._bound = threading.Timer(patience, self.process.kill)
        self._reader = threading.Thread(target=self._read)
        self._bound.start()
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.strip())
                self._news.notify_all()
        self.process.wait()
        with self._news:
            self.ended = time.monotonic()
            self._news.notify_all()

    def until(self, word: str) -> str:
        """Wait for the next line that begins with `word`; return the rest of it."""
        with self._news:
            while True:
                for line in self.lines[self._heard :]:
                    self._heard += 1
                    if line.split()[:1] == [word]:
                        return line.removeprefix(word).strip()
                if self.ended is not None:
                    raise RuntimeError("\n".join([f"ended before it said {word!r}:", *self.lines]))
                self._news.wait()

    def end(self) -> int:
        """Wait until it has ended, and return the exit code."""
        self._reader.join()
        return self.process.wait()

    def said(self, word: str) -> list[str]:
        """What followed `word`, every time."""
        return [line.removeprefix(word).strip() for line in self.lines if line.startswith(word)]

    def stop(self) -> None:
        """End it if it has not."""
        self._bound.cancel()
        self.process.kill()
        self._reader.join()
        with self.process:  # closes its pipe
            pass


@contextlib.contextmanager
def watched(commands: Sequence[Sequence[object]], patience: float) -> Iterator[list[Watched]]:
    """Processes that do not outlive their trial."""
    running: list[Watched] = []
    try:
        for command in commands:
            running.append(Watched(command, patience))
        yield running
    finally:
        for one in running:
            one.stop()
