"""The store of one batch: in memory, or in a folder of its own that survives a kill at any moment.

`metrics.jsonl` has a line per trial and segment, up to the step of the latest checkpoint or beyond;
what is beyond is dropped before training goes on. `trials.jsonl` is written as a whole once the
batch is trained. So at every moment the batch is trained, has a checkpoint, or starts from step 0.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqcells._types import Json, PyTree
from seqcells.sweep import _lease
from seqcells.sweep._files import append, lines, write_whole
from seqcells.sweep._lines import BATCH, METRICS, TRIAL, Row, read_json
from seqcells.sweep._log import Log

if TYPE_CHECKING:
    from seqcells._checkpoint import Checkpoints, Saved

ABOUT, HISTORY, ROWS = "batch.json", "metrics.jsonl", "trials.jsonl"
REMOVED = ".removed"  # suffix of a folder that is being removed


class Part:
    """A store in memory, without checkpoints.

    Attributes:
        rows: the rows of its trials, once the batch is trained.
        history: a dict of `id`, `step` and `metrics` (means over the segment) per trial and
            segment.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.history: list[Row] = []

    @contextlib.contextmanager
    def locked(self) -> Iterator[_lease.Lease | None]:
        """Lock the store for one worker, and read its contents."""
        yield None

    def widths(self) -> list[int]:
        """Return the widths of the checkpoints, the latest (narrowest) first."""
        return []

    def load(self, width: int, like: PyTree) -> Saved | None:
        """Load the checkpoint of this width, or return None if there is none."""
        return None

    def save(self, width: int, step: int, tree: PyTree) -> None:
        """Save a checkpoint, then delete those of a greater width."""

    def log(self, rows: Sequence[Row]) -> None:
        """Append to the history."""
        self.history += rows

    def rewind(self, step: int) -> None:
        """Drop the history after a step."""
        self.history = [line for line in self.history if line["step"] <= step]

    def record(self, rows: Sequence[Row]) -> None:
        """Store the rows: the batch is trained."""
        self.rows = list(rows)

    def remove(self) -> None:
        """Remove the store, because its results are elsewhere or no longer wanted."""


class PartFolder(Part):
    """A store in a folder: `batch.json`, `trials.jsonl`, `metrics.jsonl`, checkpoints and a lock.

    Args:
        folder: the folder of the batch.
        config: the settings that the results depend on, as JSON.
        about: the bucket, the width and the ids of the trials, as JSON.
    """

    def __init__(self, folder: Path, config: Json, about: Json) -> None:
        super().__init__()
        self._checkpoint = importlib.import_module("seqcells._checkpoint")  # needs the extra
        self.folder, self.config, self.about = folder, config, about
        self._lease: _lease.Lease | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[_lease.Lease]:
        """Lock the folder for one worker, and read its contents.

        Raises:
            Held: another worker holds it.
        """
        with _lease.hold(self.folder) as self._lease:
            if not (self.folder / ABOUT).exists():
                about = {"config": self.config, **self.about}
                write_whole(self.folder / ABOUT, json.dumps(about, indent=1))
            self.read(truncate=True)
            yield self._lease

    def read(self, *, truncate: bool = False) -> None:
        """Read rows and history; `truncate` removes an incomplete last line of the log."""
        self.rows = list(Log(self.folder / ROWS, TRIAL).read())
        self.history = list(Log(self.folder / HISTORY, METRICS).read(truncate=truncate))

    def history_at(self, step: int) -> list[Row]:
        """Return the lines of a step, one of the last; another process may append to the log."""
        return Log(self.folder / HISTORY, METRICS).last("step", step)

    def widths(self) -> list[int]:
        """Return the widths of the checkpoints, the latest (narrowest) first."""
        paths = self.folder.glob("checkpoints/*/generation-*")
        return sorted({int(path.parent.name) for path in paths})

    def _checkpoints(self, width: int) -> Checkpoints:
        folder = self.folder / "checkpoints" / f"{width}"
        return self._checkpoint.Checkpoints(folder, {**self.config, "width": width})

    def load(self, width: int, like: PyTree) -> Saved | None:
        """Load the checkpoint of this width, or return None if there is none."""
        return self._checkpoints(width).load(like)

    def save(self, width: int, step: int, tree: PyTree) -> None:
        """Save a checkpoint, then delete those of a greater width."""
        self._check()
        append(self.folder / HISTORY, (), sync=True)  # the checkpoint relies on it
        self._checkpoints(width).save(step, tree)
        for wider in reversed(self.widths()):
            if wider > width:
                self._checkpoints(wider).delete()

    def log(self, rows: Sequence[Row]) -> None:
        """Append to the history; the next worker drops a line that a kill cut off."""
        self._check()
        super().log(rows)
        append(self.folder / HISTORY, rows)

    def rewind(self, step: int) -> None:
        """Drop the history after a step."""
        before = len(self.history)
        super().rewind(step)
        if len(self.history) < before:
            write_whole(self.folder / HISTORY, lines(self.history))

    def record(self, rows: Sequence[Row]) -> None:
        """Store the rows on the disk: the batch is trained."""
        super().record(rows)
        self._check()
        append(self.folder / HISTORY, (), sync=True)  # the rows rely on it
        write_whole(self.folder / ROWS, lines(rows))

    def remove(self) -> None:
        """Remove the folder; it is renamed first, so that no part of it is taken for a batch."""
        if self.folder.exists():
            shutil.rmtree(self.folder.rename(self.folder.with_suffix(REMOVED)))

    def _check(self) -> None:
        """Raise if another worker has taken the batch over."""
        if self._lease is not None:
            self._lease.check()


def parts(folder: Path) -> Iterator[PartFolder]:
    """Yield the stores of batches in a folder; those without a description have not begun."""
    for about in sorted(folder.glob(f"*/{ABOUT}")):
        if about.parent.suffix != REMOVED and (content := read_json(about, BATCH)) is not None:
            yield PartFolder(about.parent, content.pop("config"), content)
