"""The store of results: in memory, or in a folder that survives a kill at any moment.

`metrics.jsonl` has a line per trial and segment, up to the step of the checkpoint of its batch. A
trial is finished when it has a row in `trials.jsonl`, and the rows of a batch are written before
its checkpoint is deleted. At every moment, a batch is therefore finished, or has a checkpoint, or
starts from step 0. With several processes, each writes to its own folder and reads those of the
others.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqcells._types import Json, PyTree
from seqcells.sweep._columns import Lines
from seqcells.sweep._files import append as _append
from seqcells.sweep._files import lines as _lines
from seqcells.sweep._files import write_whole
from seqcells.sweep._lines import METRICS, TRIAL, Row, read_settings
from seqcells.sweep._log import Log

if TYPE_CHECKING:
    from seqcells._checkpoint import Checkpoints, Saved

ABOUT = "sweep.json"  # the settings that the results in the folder depend on


class Memory:
    """A store in memory, without checkpoints.

    Attributes:
        rows: the rows of finished trials, by id.
        history: a dict of `id`, `step` and `metrics` (means over the segment) per trial and
            segment.
        widths: for each bucket's id, the width of its first program, and the number of trials for
            which it was chosen.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.history: list[Row] = []
        self.widths: dict[str, tuple[int, int]] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the store for this run, and read its contents."""
        yield

    def checkpointed_widths(self, bucket: str) -> list[int]:
        """Return the widths of this bucket's checkpoints, the latest (narrowest) first."""
        return []

    def load(self, bucket: str, width: int, like: PyTree) -> Saved | None:
        """Load the checkpoint of a batch, or return None if there is none."""
        return None

    def save(self, bucket: str, width: int, step: int, tree: PyTree) -> None:
        """Save a checkpoint of a batch, then delete those of a greater width."""

    def delete(self, bucket: str, above: int = 0) -> None:
        """Delete the checkpoints wider than `above`, the oldest (widest) first."""

    def fix_width(self, bucket: str, width: int, trials: int) -> None:
        """Store the width of a bucket: results depend on it."""
        self.widths[bucket] = width, trials

    def log(self, lines: Sequence[Row]) -> None:
        """Append to the history."""
        self.history += lines

    def rewind(self, steps: Mapping[str, int]) -> None:
        """Drop the history of each trial in `steps` after its step."""
        self.history = [
            line for line in self.history if line["step"] <= steps.get(line["id"], line["step"])
        ]

    def record(self, rows: Sequence[Row]) -> None:
        """Add rows of finished trials; a trial that has a row keeps it."""
        for row in rows:
            self.rows.setdefault(row["id"], row)

    def everything(self) -> tuple[Lines, Lines]:
        """Return rows and history, including those of other processes."""
        return Lines.of([*self.rows.values()], TRIAL), Lines.of(self.history, METRICS)


class Folder(Memory):
    """A store in a folder: `sweep.json`, `trials.jsonl`, `metrics.jsonl` and checkpoints.

    With several processes, each writes everything except the table to its own folder, such as
    `process-1-of-4`.

    Args:
        out: the folder, created if it does not exist.
        config: the settings that the results depend on, as JSON.
        process: the index of this process, from 0, and the number of processes.
    """

    def __init__(
        self, out: str | os.PathLike[str], config: Json, process: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__()
        self._checkpoint = importlib.import_module("seqcells._checkpoint")  # needs the extra
        self.out, (self.rank, count) = self._checkpoint.local("out", out), process
        self.folder = self.out / f"process-{self.rank}-of-{count}" if count > 1 else self.out
        self.config = self._checkpoint.as_json("config", config)
        logs = {"metrics.jsonl": METRICS, "trials.jsonl": TRIAL}
        self._logs = [Log(self.folder / name, fields) for name, fields in logs.items()]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder and read it; process 0 locks all of `out`.

        Raises:
            RunLocked: another run has locked it.
            ValueError: it has results of another configuration.
        """
        locked = dict.fromkeys([self.out, self.folder] if self.rank == 0 else [self.folder])
        with contextlib.ExitStack() as stack:
            for folder in locked:
                stack.enter_context(self._checkpoint.Checkpoints(folder, self.config).lock())
            for folder in _folders(self.out):
                self._settings_of(folder)
            widths = self._settings_of(self.folder)["widths"]
            self.widths = {bucket: (width, trials) for bucket, (width, trials) in widths.items()}
            for log in self._logs:
                log.read(truncate=True)
            self.history = list(self._logs[0].read())
            self.rows = {row["id"]: row for row in self.everything()[0]}
            yield
            for log in self._logs:
                log.compact()

    def everything(self) -> tuple[Lines, Lines]:
        """Return rows and history of all folders."""
        return read(self.out)[1:]

    def _settings_of(self, folder: Path) -> Json:
        """Read the settings of a folder; raise if the configuration differs."""
        stored = read_settings(folder / ABOUT) or {"config": self.config, "widths": {}}
        _check_same(folder, stored["config"], self.config)
        return stored

    def checkpointed_widths(self, bucket: str) -> list[int]:
        """Return the widths of this bucket's checkpoints, the latest (narrowest) first."""
        paths = self.folder.glob(f"checkpoints/{bucket}-*/generation-*")
        return sorted({int(path.parent.name.split("-")[1]) for path in paths})

    def _checkpoints(self, bucket: str, width: int) -> Checkpoints:
        folder = self.folder / "checkpoints" / f"{bucket}-{width}"
        return self._checkpoint.Checkpoints(folder, {**self.config, "width": width})

    def load(self, bucket: str, width: int, like: PyTree) -> Saved | None:
        """Load the checkpoint of a batch, or return None if there is none."""
        return self._checkpoints(bucket, width).load(like)

    def save(self, bucket: str, width: int, step: int, tree: PyTree) -> None:
        """Save a checkpoint of a batch, then delete those of a greater width."""
        self._sync_history()
        self._checkpoints(bucket, width).save(step, tree)
        self.delete(bucket, above=width)

    def delete(self, bucket: str, above: int = 0) -> None:
        """Delete the checkpoints wider than `above`, the oldest (widest) first."""
        for width in reversed(self.checkpointed_widths(bucket)):
            if width > above:
                self._checkpoints(bucket, width).delete()

    def fix_width(self, bucket: str, width: int, trials: int) -> None:
        """Store the width of a bucket: results depend on it."""
        super().fix_width(bucket, width, trials)
        content = {"config": self.config, "widths": self.widths}
        write_whole(self.folder / ABOUT, json.dumps(content, indent=1))

    def log(self, lines: Sequence[Row]) -> None:
        """Append to the history; the next run drops a line that a kill cut off."""
        super().log(lines)
        _append(self.folder / "metrics.jsonl", lines)

    def _sync_history(self) -> None:
        """Flush the history to the disk, before a checkpoint or a row that relies on it."""
        _append(self.folder / "metrics.jsonl", (), sync=True)

    def rewind(self, steps: Mapping[str, int]) -> None:
        """Drop the history of each trial in `steps` after its step."""
        before = len(self.history)
        super().rewind(steps)
        if len(self.history) < before:
            write_whole(self.folder / "metrics.jsonl", _lines(self.history))
            self._logs[0] = Log(self.folder / "metrics.jsonl", METRICS)  # whose copy is outdated

    def record(self, rows: Sequence[Row]) -> None:
        """Add rows of finished trials and flush them to the disk."""
        new = [row for row in rows if row["id"] not in self.rows]
        super().record(new)
        self._sync_history()
        _append(self.folder / "trials.jsonl", new, sync=True)
        for log in self._logs:
            log.compact(growth=1.0)


def _check_same(folder: Path, before: Json, now: Json) -> None:
    names = [n for n in {**before, **now} if _canonical(before, n) != _canonical(now, n)]
    if names:
        shown = "; ".join(
            f"{name}: was {before.get(name)!r}, is {now.get(name)!r}" for name in names
        )
        raise ValueError(
            f"out: expected a folder with this configuration, got {folder}, where {shown}; use "
            "another folder, or the previous settings"
        )


def _canonical(config: Json, name: str) -> str:
    """Return a setting as text, which distinguishes 1, 1.0, True and a missing value."""
    return json.dumps({name: config[name]} if name in config else {}, sort_keys=True)


def read(out: Path, left_of: Collection[str] = ()) -> tuple[Json, Lines, Lines]:
    """Read configuration, rows and history from a folder, even while runs write to it.

    If two processes have written the history of a trial, that of the process with its row counts.

    Args:
        out: the folder.
        left_of: if given, ids of trials; if all of them have rows, no history is read.
    """
    config: Json = {}
    rows: list[Lines] = []
    history: list[Lines] = [Lines.of((), METRICS)]
    home: dict[str, Path] = {}
    for folder in _folders(out):
        config = (read_settings(folder / ABOUT) or {"config": config})["config"]
        rows.append(Log(folder / "trials.jsonl", TRIAL).read())
        for id in rows[-1].texts["id"].values:
            home.setdefault(id, folder)
    for folder in [] if left_of and home.keys() >= set(left_of) else _folders(out):
        lines = Log(folder / "metrics.jsonl", METRICS).read()
        ids = lines.texts["id"].values
        history.append(lines.where_id([home.get(id, folder) == folder for id in ids]))
    return config, Lines.join(rows).first("id"), Lines.join(history).first("id", "step")


def _folders(out: Path) -> list[Path]:
    """Return `out` and the folders of processes, for any number of processes."""
    return [out, *sorted(out.glob("process-*-of-*"))]
