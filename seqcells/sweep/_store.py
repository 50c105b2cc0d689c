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
from collections.abc import Iterator
from pathlib import Path

from seqcells._types import Json
from seqcells.sweep._files import append, write_whole
from seqcells.sweep._job import Job
from seqcells.sweep._lines import METRICS, SETTINGS, TRIAL, Row, read_json, read_lines
from seqcells.sweep._part import REMOVED, Part, PartFolder, parts

ABOUT = "sweep.json"  # the settings that the results in the folder depend on
BATCHES = "batches"


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
        self.history += part.history
        self.rows |= {row["id"]: row for row in part.rows if row["id"] not in self.rows}
        part.remove()

    def everything(self) -> tuple[dict[str, Row], list[Row]]:
        """Return rows and history, including those of batches in training."""
        return self.rows, self.history


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
            self.widths = {
                bucket: (width, trials) for bucket, (width, trials) in stored["widths"].items()
            }
            self.history = read_lines(self.out / "metrics.jsonl", METRICS, truncate=True)
            lines = read_lines(self.out / "trials.jsonl", TRIAL, truncate=True)
            self.rows = {row["id"]: row for row in lines}
            for folder in (self.out / BATCHES).glob(f"*{REMOVED}"):
                shutil.rmtree(folder)
            for part in self.begun():
                _check_same(part.folder, part.config, self.config)
                part.read()
                if part.rows:
                    self._collect_again(part)
            yield

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

    def collect(self, part: Part) -> None:
        """Take over the results of a trained batch: the history, then the rows that rely on it."""
        append(self.out / "metrics.jsonl", part.history, sync=True)
        new = [row for row in part.rows if row["id"] not in self.rows]
        append(self.out / "trials.jsonl", new, sync=True)
        super().collect(part)

    def _collect_again(self, part: Part) -> None:
        """Collect a batch of which a part may have been collected before a kill."""
        ids = {row["id"] for row in part.rows}
        known = {(line["id"], line["step"]) for line in self.history if line["id"] in ids}
        part.history = [line for line in part.history if (line["id"], line["step"]) not in known]
        self.collect(part)

    def everything(self) -> tuple[dict[str, Row], list[Row]]:
        """Return rows and history, including those of batches in training."""
        return read(self.out)[1:]


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


def read(out: Path) -> tuple[Json, dict[str, Row], list[Row]]:
    """Read configuration, rows and history from a folder, even while runs write to it.

    Batches in training are read first, so that one that is collected meanwhile is not missed.
    """
    begun = list(parts(out / BATCHES))
    for part in begun:
        with contextlib.suppress(FileNotFoundError):  # it is collected meanwhile
            part.read()
    config = (read_json(out / ABOUT, SETTINGS) or {"config": {}})["config"]
    rows = {row["id"]: row for row in read_lines(out / "trials.jsonl", TRIAL)}
    history = read_lines(out / "metrics.jsonl", METRICS)
    known = {(line["id"], line["step"]) for line in history}
    for part in begun:
        rows |= {row["id"]: row for row in part.rows if row["id"] not in rows}
        history += [line for line in part.history if (line["id"], line["step"]) not in known]
    return config, rows, history
