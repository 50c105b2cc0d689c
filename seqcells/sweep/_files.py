"""Files that are written whole or not at all, and logs of JSON lines that are appended to."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqcells.sweep._lines import Row


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file atomically: a reader sees the old file or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an `OSError` without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def append(path: Path, rows: Sequence[Row], *, sync: bool = False) -> None:
    """Append rows as JSON lines; a kill leaves a part of them, which readers drop."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(lines(rows))
        file.flush()
        if sync:
            os.fsync(file.fileno())


def lines(rows: Sequence[Row]) -> str:
    """Return rows as JSON lines."""
    return "".join(f"{json.dumps(_storable(row), allow_nan=False)}\n" for row in rows)


def _storable(value: object) -> object:
    """Replace NaN and infinity, which JSON cannot hold, by null, which is read back as NaN."""
    if isinstance(value, dict):
        return {name: _storable(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
