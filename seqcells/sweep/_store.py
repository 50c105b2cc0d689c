"""Where results are kept: in memory, or in a folder in which a run may be killed at any moment.

A line of `metrics.jsonl` counts up to the step of its chunk's checkpoint, and a trial is finished
when it has a row in `trials.jsonl`; the rows of a chunk are written before its checkpoint is
removed. So at every moment a chunk is finished, or has a checkpoint, or begins anew.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ABOUT = "sweep.json"  # what the results in the folder depend on


class Memory:
    """Results that end with the process.

    Attributes:
        rows: those of finished trials, by id.
        history: a dict of `id`, `step` and `metrics` (means over the segment) a trial and segment.
        widths: of the first program of every bucket, by the bucket's id.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.history: list[Row] = []
        self.widths: dict[str, int] = {}

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Hold what is here, so that no other run uses it."""
        yield

    def begun(self, bucket: str) -> list[int]:
        """Widths that a chunk of this bucket has checkpoints of, the latest (narrowest) first."""
        return []

    def checkpoints(self, bucket: str, width: int) -> Any:
        """Return the checkpoints of a chunk, or None where none are kept."""
        return None

    def fix_width(self, bucket: str, width: int) -> None:
        """Keep the width of a bucket: results depend on it."""
        self.widths[bucket] = width

    def log(self, lines: Sequence[Row]) -> None:
        """Add to the history."""
        self.history += lines

    def settle(self) -> None:
        """Wait until the history is on the disk: a checkpoint vouches for it."""

    def rewind(self, steps: Mapping[str, int]) -> None:
        """Forget the history of some trials after the steps named."""
        self.history = [
            line for line in self.history if line["step"] <= steps.get(line["id"], line["step"])
        ]

    def record(self, rows: Sequence[Row]) -> None:
        """Add rows of finished trials; one that has a row keeps it."""
        for row in rows:
            self.rows.setdefault(row["id"], row)


class Folder(Memory):
    """Results in a folder: `sweep.json`, `trials.jsonl`, `metrics.jsonl` and checkpoints.

    Args:
        folder: made where there is none.
        config: what the results depend on, as JSON has it.
    """

    def __init__(self, folder: str | os.PathLike[str], config: dict[str, Any]) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.config = json.loads(json.dumps(config))
        self._checkpoint = importlib.import_module("seqcells._checkpoint")  # needs the extra

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder and read it.

        Raises:
            RunLocked: another run holds it.
            ValueError: it is of another configuration.
        """
        with self._checkpoint.Checkpoints(self.folder, self.config).lock():
            about = self.folder / ABOUT
            kept = json.loads(about.read_text()) if about.exists() else {"config": self.config}
            _check_same(self.folder, kept["config"], self.config)
            self.widths = kept.get("widths", {})
            _mend(self.folder / "trials.jsonl")
            _mend(self.folder / "metrics.jsonl")
            _, self.rows, self.history = read(self.folder)
            yield

    def begun(self, bucket: str) -> list[int]:
        """Widths that a chunk of this bucket has checkpoints of, the latest (narrowest) first."""
        found = self.folder.glob(f"checkpoints/{bucket}-*/generation-*")
        return sorted({int(path.parent.name.split("-")[1]) for path in found})

    def checkpoints(self, bucket: str, width: int) -> Any:
        """Return the checkpoints of a chunk."""
        folder = self.folder / "checkpoints" / f"{bucket}-{width}"
        return self._checkpoint.Checkpoints(folder, {**self.config, "width": width})

    def fix_width(self, bucket: str, width: int) -> None:
        """Keep the width of a bucket: results depend on it."""
        super().fix_width(bucket, width)
        content = {"config": self.config, "widths": self.widths}
        write_whole(self.folder / ABOUT, json.dumps(content, indent=1))

    def log(self, lines: Sequence[Row]) -> None:
        """Add to the history; a line is whole or is dropped when it is next read."""
        super().log(lines)
        _append(self.folder / "metrics.jsonl", lines)

    def settle(self) -> None:
        """Wait until the history is on the disk: a checkpoint vouches for it."""
        _append(self.folder / "metrics.jsonl", (), sync=True)

    def rewind(self, steps: Mapping[str, int]) -> None:
        """Forget the history of some trials after the steps named."""
        before = len(self.history)
        super().rewind(steps)
        if len(self.history) < before:
            write_whole(self.folder / "metrics.jsonl", _lines(self.history))

    def record(self, rows: Sequence[Row]) -> None:
        """Add rows of finished trials, on the disk when this returns."""
        new = [row for row in rows if row["id"] not in self.rows]
        super().record(new)
        self.settle()
        _append(self.folder / "trials.jsonl", new, sync=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    os.replace(name, path)


def _check_same(folder: Path, was: Any, now: Any) -> None:
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if names:
        shown = "; ".join(f"{name}: was {was.get(name)!r}, is {now.get(name)!r}" for name in names)
        raise ValueError(
            f"out: expected a folder of this configuration, got {folder}, where {shown}; take "
            "another folder, or what it was"
        )


def _lines(rows: Sequence[Row]) -> str:
    return "".join(f"{json.dumps(_storable(row), allow_nan=False)}\n" for row in rows)


def _storable(value: Any) -> Any:
    """JSON has no NaN and no infinity: null, read back as NaN."""
    if isinstance(value, dict):
        return {name: _storable(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(path: Path, rows: Sequence[Row], sync: bool = False) -> None:
    with path.open("a") as file:
        file.write(_lines(rows))
        file.flush()
        if sync:
            os.fsync(file.fileno())


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Row], list[Row]]:
    """Read what a folder holds, also while a run writes to it: configuration, rows and history."""
    about = folder / ABOUT
    config = json.loads(about.read_text())["config"] if about.exists() else {}
    rows = {row["id"]: row for row in _read(folder / "trials.jsonl")}
    return config, rows, _read(folder / "metrics.jsonl")


def _read(path: Path) -> list[Row]:
    """Read whole lines."""
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1
    return [_restored(json.loads(line)) for line in data[:whole].splitlines()]


def _mend(path: Path) -> None:
    """Cut off half a line that a killed process has left."""
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


def _restored(row: Row) -> Row:
    if isinstance(row.get("metrics"), dict):
        row["metrics"] = {n: math.nan if v is None else v for n, v in row["metrics"].items()}
    return row
