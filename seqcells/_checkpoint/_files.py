"""Bytes on disk: kept through a power cut, and known again when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_AT_ONCE = 16


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or cannot be trusted."""


class BrokenError(Exception):
    """What is wrong with one generation; the one before may still do."""


def seal(content: Any) -> str:
    """Say `content` as JSON together with its SHA-256."""
    body = json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({"content": content, "sha256": digest}, sort_keys=True, indent=1)


def unseal(path: Path, limit: int) -> Any:
    """Return what was sealed in a file of at most `limit` bytes; a changed byte is an error."""
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
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise BrokenError(f"{path.name} is not a regular file")
    return found.st_size


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def within(folder: Path) -> Iterator[Path]:
    """All that is not a folder in `folder`, however deep."""
    return (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Wait until all of a folder is on the disk; together, as a journal writes many as one."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(sync, (*folder.rglob("*"), folder)))


def remove(folder: Path) -> None:
    """Remove a folder; what lies two deep (a folder a leaf) together."""
    deep = [path for path in folder.glob("*/*") if path.is_dir() and not path.is_symlink()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(shutil.rmtree, deep))
    shutil.rmtree(folder)
