"""A watchdog: a process that hangs still has JAX's heartbeat, which a thread of its own sends."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
from typing import Any

_GRACE = 5.0  # seconds that a thread of Python has before the one that needs no lock


class Watchdog:
    """Ends this process where it makes no beat, and says which process is behind.

    A collective makes all wait for the one that hangs, so that all are late: every process tells
    the others how many beats it has made, and the ones with the fewest are named. A thread of
    `faulthandler` does the rest where Python's lock is held, or where the others cannot be asked.

    Args:
        client: of `jax.distributed`.
        rank: of this process.
        count: of all processes.
        seconds: without a beat that are too many.
    """

    def __init__(self, client: Any, rank: int, count: int, seconds: float) -> None:
        self.client, self.rank, self.count, self.seconds = client, rank, count, seconds
        self.beats = 0
        self.beat()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="seqcells-watchdog", daemon=True)
        self._thread.start()
        atexit.register(self.stop)  # a thread in JAX's client would abort an interpreter that ends

    def beat(self) -> None:
        """Go on."""
        self.beats += 1
        self.last = time.monotonic()
        faulthandler.dump_traceback_later(
            self.seconds + _GRACE, exit=True, file=sys.__stderr__ or sys.stderr
        )

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        faulthandler.cancel_dump_traceback_later()
        self._thread.join()

    def _watch(self) -> None:
        told = 0
        while time.monotonic() - self.last < self.seconds:
            if told < self.beats:
                told = self.beats
                with contextlib.suppress(Exception):  # it ends: JAX says why
                    self.client.key_value_set(
                        f"seqcells/beat/{self.rank}", f"{told}", allow_overwrite=True
                    )
            if self._over.wait(min(0.5, self.seconds / 4)):
                return
        self._end()

    def _end(self) -> None:
        me = f"process {self.rank} of {self.count} (pid {os.getpid()} on {socket.gethostname()})"
        _say(f"{me} has made no beat for {self.seconds:g} s, and asks process 0 who is behind")
        _say(self._verdict())
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        os._exit(1)

    def _verdict(self) -> str:
        beats = dict.fromkeys(range(self.count), 0) | {
            int(name.rpartition("/")[2]): int(value)
            for name, value in self.client.key_value_dir_get("seqcells/beat/")
        }
        least = min(beats.values())
        behind = [str(rank) for rank, made in beats.items() if made == least]
        who = f"process {', '.join(behind)}" if len(behind) < self.count else "every process"
        return (
            f"{who} of {self.count} hangs at beat {least}, process {self.rank} is at beat "
            f"{beats[self.rank]}; it ends: run all again, to go on from the last checkpoint. Where "
            "a segment or its compilation takes longer, raise hang_seconds"
        )


def _say(text: str) -> None:
    print(f"seqcells: {text}", file=sys.stderr, flush=True)
