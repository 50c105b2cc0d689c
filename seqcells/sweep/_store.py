"""Where results are kept: in memory, or in a folder in which a run may be killed at any moment.

A line of `metrics.jsonl` counts up to the step of its chunk's checkpoint, and a trial is finished
when it has a row in `trials.jsonl`; the rows of a chunk are written before its checkpoint is
removed. So at every moment a chunk is finished, or has a checkpoint, or begins anew. Each of
several processes has a folder of its own in it, and reads those of the others.
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

    def everything(self) -> tuple[dict[str, Row], list[Row]]:
        """Rows and history, those of other processes too."""
        return self.rows, self.history


class Folder(Memory):
    """Results in a folder: `sweep.json`, `trials.jsonl`, `metrics.jsonl` and checkpoints.

    Of several processes each has its own, `process-1-of-4`, in which all but the table is.

    Args:
        out: made where there is none.
        config: what the results depend on, as JSON has it.
        process: of how many this is which, from 0.
    """

    def __init__(
        self, out: str | os.PathLike[str], config: dict[str, Any], process: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__()
        self.out, (self.rank, count) = Path(out), process
        self.folder = self.out / f"process-{self.rank}-of-{count}" if count > 1 else self.out
        self.config = json.loads(json.dumps(config))
        self._checkpoint = importlib.import_module("seqcells._checkpoint")  # needs the extra

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder and read it; process 0 holds all of `out`.

        Raises:
            RunLocked: another run holds it.
            ValueError: it is of another configuration.
        """
        held = dict.fromkeys([self.out, self.folder] if self.rank == 0 else [self.folder])
        with contextlib.ExitStack() as stack:
            for folder in held:
                stack.enter_context(self._checkpoint.Checkpoints(folder, self.config).lock())
            for folder in _folders(self.out):
                self._about(folder)
            self.widths = self._about(self.folder).get("widths", {})
            self.history = _read(self.folder / "metrics.jsonl", mend=True)
            _read(self.folder / "trials.jsonl", mend=True)
            self.rows = self.everything()[0]
            yield

    def everything(self) -> tuple[dict[str, Row], list[Row]]:
        """Rows and history of all folders."""
        return read(self.out)[1:]

    def _about(self, folder: Path) -> dict[str, Any]:
        """What is said of a folder, if it is of this configuration."""
        file = folder / ABOUT
        kept = json.loads(file.read_text()) if file.exists() else {"config": self.config}
        _check_same(folder, kept["config"], self.config)
        return kept

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


def read(out: Path) -> tuple[dict[str, Any], dict[str, Row], list[Row]]:
    """Read what a folder holds, also while runs write to it: configuration, rows and history.

    Of a trial in the folders of two processes, it is what the one says that has its row.
    """
    config: dict[str, Any] = {}
    rows: dict[str, Row] = {}
    home: dict[str, Path] = {}
    for folder in _folders(out):
        if (folder / ABOUT).exists():
            config = json.loads((folder / ABOUT).read_text())["config"]
        for row in _read(folder / "trials.jsonl"):
            rows.setdefault(row["id"], row)
            home.setdefault(row["id"], folder)
    lines: dict[tuple[str, int], Row] = {}
    for folder in _folders(out):
        for line in _read(folder / "metrics.jsonl"):
            if home.get(line["id"], folder) == folder:
                lines.setdefault((line["id"], line["step"]), line)
    return config, rows, list(lines.values())


def _folders(out: Path) -> list[Path]:
    """Those that processes have, of whatever number there were."""
    return [out, *sorted(out.glob("process-*-of-*"))]


def _read(path: Path, mend: bool = False) -> list[Row]:
    """Read whole lines; to mend is to cut off half a one that a killed process has left."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if mend and whole < len(data):
        os.truncate(path, whole)
    return [_restored(json.loads(line)) for line in data[:whole].splitlines()]


def _restored(row: Row) -> Row:
    if isinstance(row.get("metrics"), dict):
        row["metrics"] = {n: math.nan if v is None else v for n, v in row["metrics"].items()}
    return row
