"""The lock of a batch, which a worker on any machine holds as long as it gives signs of life."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seqcells._checkpoint._files import CheckpointError
from seqcells._checkpoint._lock import LOCK
from seqcells._types import Json
from seqcells.sweep._files import naming

BEAT = 5.0  # seconds between two signs of life
STALE = 60.0  # seconds of silence after which another worker takes over


class Held(CheckpointError):
    """Another worker trains this batch."""


class Lost(CheckpointError):
    """Another worker has taken this batch over, because this one was silent."""


class Holder(NamedTuple):
    """Who holds a folder."""

    name: str
    silent: float  # seconds since its last sign of life

    @property
    def lives(self) -> bool:
        """Whether it has given a sign of life lately."""
        return self.silent < STALE


class Lease:
    """A lock on a folder that its holder renews, and loses if it stays silent.

    The kernel's lock is released however a process ends. Where machines do not share it, or where
    the process is frozen, the age of the file decides: a thread renews it every `BEAT` seconds, and
    after `STALE` seconds without a sign another worker puts a new file in its place. The first
    holder finds that out at its next write, and stops. Ages are differences between times of one
    file server, so the clocks of machines may differ.
    """

    def __init__(self, handle: int, path: Path) -> None:
        self._handle, self._path = handle, path
        self._over = threading.Event()

    def show(self, **facts: object) -> None:
        """Write facts for readers, such as the step; raise `Lost` if it was taken over."""
        self.check()
        about = {"host": platform.node(), "pid": os.getpid(), **facts}
        data = json.dumps(about).encode()
        with naming(self._path):
            os.pwrite(self._handle, data, 0)
            os.truncate(self._handle, len(data))

    def check(self) -> None:
        """Raise `Lost` if another worker has taken the folder over."""
        if not _is_at(self._handle, self._path):
            raise Lost(f"{self._path.parent}: another worker has taken this batch over")

    @contextlib.contextmanager
    def renewed(self) -> Iterator[Lease]:
        """Give signs of life until the block ends."""
        thread = threading.Thread(target=self._renew, name="seqcells-lease", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
            os.truncate(self._handle, 0)  # so that nobody waits for it to grow old

    def _renew(self) -> None:
        while not self._over.wait(BEAT):
            os.utime(self._handle)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Lease]:
    """Lock a folder until the block ends.

    Raises:
        Held: another worker holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        before = _lock(handle := _open(path, stack), path)
        if before is not None:
            if before.lives or not _is_at(handle, path):
                raise Held(f"{folder}: expected a free batch, got one that {before.name} trains")
            path.unlink()
            before = _lock(handle := _open(path, stack), path)
        if before is not None or not _is_at(handle, path):  # another was faster
            raise Held(f"{folder}: expected a free batch, got one that another worker takes over")
        lease = Lease(handle, path)
        lease.show()
        yield stack.enter_context(lease.renewed())


def holder(folder: Path) -> Holder | None:
    """Return who holds a folder, if anybody does."""
    path = folder / LOCK
    if not path.exists():
        return None
    with contextlib.ExitStack() as stack:
        return _lock(_open(path, stack), path)


def facts(folder: Path) -> Json:
    """Return what the holder of a folder has last shown; {} if nobody holds it."""
    try:
        shown = json.loads((folder / LOCK).read_bytes())
    except (OSError, ValueError):  # no file, or one that is being written
        return {}
    return shown if isinstance(shown, dict) else {}


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    stack.callback(os.close, handle)
    return handle


def _lock(handle: int, path: Path) -> Holder | None:
    """Lock an open file; return the holder if there is one."""
    about, here = facts(path.parent), platform.node()
    name = f"process {about.get('pid', 'of unknown number')} on {about.get('host', 'a machine')}"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Holder(name, _silence(path))
    if about.get("host", here) == here:
        return None  # whoever wrote this has ended
    last = Holder(name, _silence(path))
    return last if last.lives else None


def _silence(path: Path) -> float:
    """Return the seconds since the last sign of life, by the clock of the file server."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".now") as now:
        return os.stat(now.name).st_mtime - path.stat().st_mtime


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of this path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
