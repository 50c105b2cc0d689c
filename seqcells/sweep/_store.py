"""The store of a sweep's results: in memory, or in a folder.

A batch in training has a folder of its own in `batches` (see `_part`). Once it is trained, its
history and then its rows are appended to `metrics.jsonl` and `trials.jsonl`, and its folder is
removed; a batch that is there twice after a kill is the same in both places.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from seqcells._types import Json
from seqcells.sweep._columns import Lines
from seqcells.sweep._files import append, write_whole
from seqcells.sweep._job import Job
from seqcells.sweep._lines import METRICS, SETTINGS, TRIAL, Row, read_json
from seqcells.sweep._log import Log
from seqcells.sweep._part import HISTORY, REMOVED, ROWS, Part, PartFolder, parts

ABOUT = "sweep.json"  # the settings that the results in the folder depend on
BATCHES = "batches"


class Memory:
    """A store in memory, without checkpoints.

    Attributes:
        done: the ids of the trials that have a row.
        widths: for each bucket's id, the width of its first program, and the number of trials for
            which it was chosen.
    """

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.widths: dict[str, tuple[int, int]] = {}
        self._rows: list[Row] = []
        self._history: list[Row] = []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the store for this run, and read its contents."""
        yield

    def part(self, job: Job) -> Part:
        """Return the store of one batch."""
        return Part()

    def begun(self) -> list[PartFolder]:
        """Return the stores of batches that have begun and are not collected."""
        return []

    def fix_width(self, bucket: str, width: int, trials: int) -> None:
        """Store the width of a bucket: results depend on it."""
        self.widths[bucket] = width, trials

    def collect(self, part: Part) -> None:
        """Take over the results of a trained batch, and remove its store."""
        self._store([row for row in part.rows if row["id"] not in self.done], part.history)
        self.done.update(row["id"] for row in part.rows)
        part.remove()

    def _store(self, rows: list[Row], history: list[Row]) -> None:
        self._rows += rows
        self._history += history

    def everything(self) -> tuple[Lines, Lines]:
        """Return rows and history, including those of batches in training."""
        return Lines.of(self._rows, TRIAL), Lines.of(self._history, METRICS)


class Folder(Memory):
    """A store in a folder: `sweep.json`, `trials.jsonl`, `metrics.jsonl` and folders of batches.

    Args:
        out: the folder, created if it does not exist.
        config: the settings that the results depend on, as JSON.
    """

    def __init__(self, out: str | os.PathLike[str], config: Json) -> None:
        super().__init__()
        self._checkpoint = importlib.import_module("seqcells._checkpoint")  # needs the extra
        self.out = self._checkpoint.local("out", out)
        self.config = self._checkpoint.as_json("config", config)
        self._logs = {
            name: Log(self.out / name, fields)
            for name, fields in ((HISTORY, METRICS), (ROWS, TRIAL))
        }

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, read it, and collect the batches that are trained.

        Raises:
            RunLocked: another run has locked it.
            ValueError: it has results of another configuration.
        """
        with self._checkpoint.Checkpoints(self.out, self.config).lock():
            stored = read_json(self.out / ABOUT, SETTINGS) or {"config": self.config, "widths": {}}
            _check_same(self.out, stored["config"], self.config)
            self.widths = {bucket: (w, trials) for bucket, (w, trials) in stored["widths"].items()}
            history = self._logs[HISTORY].read(truncate=True)
            self.done = set(self._logs[ROWS].read(truncate=True).texts["id"].values)
            for folder in (self.out / BATCHES).glob(f"*{REMOVED}"):
                shutil.rmtree(folder)
            for part in self.begun():
                _check_same(part.folder, part.config, self.config)
                part.read()
                if part.rows:
                    self._collect_again(part, history)
            del history
            yield
            for log in self._logs.values():
                log.compact()

    def part(self, job: Job) -> PartFolder:
        """Return the store of one batch."""
        return PartFolder(self.out / BATCHES / job.id, self.config, job.about)

    def begun(self) -> list[PartFolder]:
        """Return the stores of batches that have begun and are not collected."""
        return list(parts(self.out / BATCHES))

    def fix_width(self, bucket: str, width: int, trials: int) -> None:
        """Store the width of a bucket: results depend on it."""
        super().fix_width(bucket, width, trials)
        content = {"config": self.config, "widths": self.widths}
        write_whole(self.out / ABOUT, json.dumps(content, indent=1))

    def _store(self, rows: list[Row], history: list[Row]) -> None:
        """Append the history, then the rows that rely on it, to the logs."""
        append(self.out / HISTORY, history, sync=True)
        append(self.out / ROWS, rows, sync=True)
        for log in self._logs.values():
            log.compact(growth=1.0)

    def _collect_again(self, part: Part, history: Lines) -> None:
        """Collect a batch of which a part may have been collected before a kill."""
        ids = {row["id"] for row in part.rows}
        known = _steps(history.where_id([id in ids for id in history.texts["id"].values]))
        part.history = [line for line in part.history if (line["id"], line["step"]) not in known]
        self.collect(part)

    def everything(self) -> tuple[Lines, Lines]:
        """Return rows and history, including those of batches in training."""
        return read(self.out)[1:]


def _steps(history: Lines) -> set[tuple[str, int]]:
    """Return the ids and steps of lines of the history."""
    return set(zip(history.texts["id"].decode(), history.numbers["step"].tolist(), strict=True))


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

    Batches in training are read first, so that one that is collected meanwhile is not missed.

    Args:
        out: the folder.
        left_of: if given, ids of trials; if all of them have rows, no history is read.
    """
    begun = list(parts(out / BATCHES))
    for part in begun:
        with contextlib.suppress(FileNotFoundError):  # it is collected meanwhile
            part.read()
    config = (read_json(out / ABOUT, SETTINGS) or {"config": {}})["config"]
    trained = [Lines.of(part.rows, TRIAL) for part in begun if part.rows]
    rows = Lines.join([Log(out / ROWS, TRIAL).read(), *trained]).first("id")
    if left_of and set(left_of) <= set(rows.texts["id"].values):
        return config, rows, Lines.of((), METRICS)
    logs = [Lines.of(part.history, METRICS) for part in begun if part.history]
    history = Lines.join([Log(out / HISTORY, METRICS).read(), *logs])
    return config, rows, history.first("id", "step")
