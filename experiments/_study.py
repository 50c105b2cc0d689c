"""Running a study part by part: what is finished is kept, and a second run does not repeat it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import seqcells as sc

Rows = dict[str, list[dict[str, Any]]]  # by table, such as "results"


def writable(out: Path) -> Path:
    """Make the folder; raise an OSError that names it if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"out: expected a folder to write to, got {out} ({error.strerror})") from None
    return out


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a study: where its rows are kept once they are measured.

    Args:
        folder: where parts are kept.
        name: for people.
        settings: everything that the rows depend on; other settings are another file.
    """

    folder: Path
    name: str
    settings: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file, named by a digest of the settings and of the library's version."""
        text = json.dumps({"seqcells": sc.__version__, **self.settings}, sort_keys=True)
        return self.folder / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"

    def load(self) -> Rows | None:
        """Return the rows, or None if they are not there whole."""
        try:
            return json.loads(self.path.read_text())["rows"]
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None

    def save(self, rows: Rows) -> None:
        """Write the rows, whole or not at all."""
        made_with = {
            "seqcells": sc.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"settings": self.settings, "made_with": made_with, "rows": rows}
        write_whole(self.path, json.dumps(content, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    os.replace(name, path)


class Group(Protocol):
    """What is measured in one go."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def steps(self) -> int:
        """Steps of training, at most."""
        ...

    def part(self, out: Path) -> Part:
        """Where the rows are kept."""
        ...

    def measure(self, progress: Callable[[int], None]) -> Rows:
        """Measure the rows, calling `progress` with the steps done."""
        ...


def measure(
    groups: Sequence[Group], columns: dict[str, list[str]], out: Path, console: Console
) -> None:
    """Measure the groups that are not finished, with a bar; write a CSV file a table.

    Args:
        groups: what to measure.
        columns: the columns of every table.
        out: the folder to write to.
        console: where the bar is drawn and finished groups are named.
    """
    out = writable(out)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        total = sum(group.steps for group in groups)
        task = bar.add_task("", total=total)
        before = 0
        for group in groups:
            bar.update(task, description=f"{group.name:24}")
            part, start = group.part(out), time.perf_counter()
            kept = part.load() is not None
            if not kept:
                part.save(group.measure(partial(_advance, bar, task, before)))
            seconds = time.perf_counter() - start
            console.print(f"{group.name:24} {'kept' if kept else f'{seconds:.0f} s'}")
            before += group.steps
            bar.update(task, completed=before)
            _collect(groups, columns, out)


def _advance(bar: Progress, task: Any, before: int, steps: int) -> None:
    bar.update(task, completed=before + steps)


def _collect(groups: Sequence[Group], columns: dict[str, list[str]], out: Path) -> None:
    """Write the tables from the finished parts."""
    parts = [group.part(out).load() for group in groups]
    for table, names in columns.items():
        rows = [row for part in parts if part for row in part[table]]
        write_whole(out / f"{table}.csv", pd.DataFrame(rows, columns=names).to_csv(index=False))
