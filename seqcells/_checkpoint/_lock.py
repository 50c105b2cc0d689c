"""A lock of a folder, which the kernel releases however the process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from seqcells._checkpoint._files import CheckpointError

LOCK = "lock"


class RunLocked(CheckpointError):
    """Another run has locked the folder."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock the folder, or raise `RunLocked` at once; the lock file is not removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "a process that has not yet written its name"
            raise RunLocked(
                f"{folder}: expected a folder that no other run is using, but {holder} holds it; "
                "wait until that run has ended, stop it, or give another folder"
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
