"""A watchdog for hanging processes, which still send JAX's heartbeat from another thread."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
from typing import Protocol

_GRACE = 5.0  # seconds that the Python thread has before `faulthandler`, which needs no lock


class Store(Protocol):
    """The key-value store of `jax.distributed`, which the processes share."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = ...) -> None: ...

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]: ...


class Watchdog:
    """End this process if it reports no progress, and name the process that is behind.

    In a collective all processes wait for the one that hangs, so all of them are late. Every
    process therefore publishes its number of beats, and the error names those with the fewest. A
    thread of `faulthandler` ends the process if Python's lock is held or the store does not answer.

    Args:
        client: the key-value store of `jax.distributed`.
        rank: index of this process.
        count: number of processes.
        seconds: seconds without a beat before the process exits.
    """

    def __init__(self, client: Store, rank: int, count: int, seconds: float) -> None:
        self.client, self.rank, self.count, self.seconds = client, rank, count, seconds
        self.beats = 0
        self.beat()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="seqcells-watchdog", daemon=True)
        self._thread.start()
        atexit.register(
            self.stop
        )  # a thread inside JAX's client would abort the interpreter at exit

    def beat(self) -> None:
        """Report progress."""
        self.beats += 1
        self.last = time.monotonic()
        faulthandler.dump_traceback_later(
            self.seconds + _GRACE, exit=True, file=sys.__stderr__ or sys.stderr
        )

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        faulthandler.cancel_dump_traceback_later()
        self._thread.join()

    def _watch(self) -> None:
        published = 0
        while time.monotonic() - self.last < self.seconds:
            if published < self.beats:
                published = self.beats
                with contextlib.suppress(Exception):  # the process ends, and JAX says why
                    self.client.key_value_set(
                        f"seqcells/beat/{self.rank}", f"{published}", allow_overwrite=True
                    )
            if self._over.wait(min(0.5, self.seconds / 4)):
                return
        self._end()

    def _end(self) -> None:
        me = f"process {self.rank} of {self.count} (pid {os.getpid()} on {socket.gethostname()})"
        _print(f"{me} has made no beat for {self.seconds:g} s, and asks process 0 who is behind")
        _print(self._verdict())
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        os._exit(1)

    def _verdict(self) -> str:
        beats = dict.fromkeys(range(self.count), 0) | {
            int(name.rpartition("/")[2]): int(value)
            for name, value in self.client.key_value_dir_get("seqcells/beat/")
        }
        least = min(beats.values())
        behind = [str(rank) for rank, count in beats.items() if count == least]
        who = f"process {', '.join(behind)}" if len(behind) < self.count else "every process"
        return (
            f"{who} of {self.count} hangs at beat {least}, process {self.rank} is at beat "
            f"{beats[self.rank]}; it exits: run all again to continue from the last checkpoint. If "
            "a segment or its compilation takes longer, raise hang_seconds"
        )


def _print(text: str) -> None:
    print(f"seqcells: {text}", file=sys.stderr, flush=True)
