"""Files that are synced to the disk, and verified by their SHA-256 when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seqcells._types import Json

_THREADS = 16


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or failed verification."""


class BrokenError(Exception):
    """One generation is damaged; an older one may be intact."""


def local(name: str, folder: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a local folder, so that it survives a change of directory."""
    path = Path(folder)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):  # Path turns s3://a into s3:/a
        raise ValueError(f"{name}: expected a local folder, got the URL {str(folder)!r}")
    return path.absolute()


def seal(content: Json) -> str:
    """Return `content` with its SHA-256 as JSON."""
    body = json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({"content": content, "sha256": digest}, sort_keys=True, indent=1)


def unseal(path: Path, limit: int) -> Json:
    """Read a sealed file of at most `limit` bytes; raise if any byte has changed."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise BrokenError(f"{path.name} is longer than {limit} bytes")
        content = json.loads(data)["content"]
        if seal(content).encode() != data:
            raise BrokenError(f"{path.name} is not what was written")
        return content
    except FileNotFoundError:
        raise BrokenError(f"{path.name} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenError(f"{path.name} cannot be read ({error})") from error


def check_regular(path: Path) -> int:
    """Return the size of a file; raise if it is a link, a pipe or a device."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise BrokenError(f"{path.name} is not a regular file")
    return status.st_size


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def within(folder: Path) -> Iterator[Path]:
    """Yield everything in `folder` that is not a folder, at any depth."""
    return (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def sync(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Flush a whole folder to the disk; in threads, because a journal merges their writes."""
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(sync, (*folder.rglob("*"), folder)))


def remove(folder: Path) -> None:
    """Remove a folder; subfolders two levels deep (one per leaf) are removed in threads."""
    deep = [path for path in folder.glob("*/*") if path.is_dir() and not path.is_symlink()]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(shutil.rmtree, deep))
    shutil.rmtree(folder)
