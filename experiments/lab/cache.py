"""Running a study part by part: what is finished is kept, and a second run does not repeat it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import seqcells as sc
from experiments.lab import machine
from experiments.lab.files import About, writable, write_about, write_whole

Rows = dict[str, list[dict[str, Any]]]  # by table, such as "results"


@functools.cache
def fingerprint(code: tuple[Path, ...]) -> str:
    """Digest of source files, and of all those in folders."""
    folders = [sorted(path.rglob("*.py")) if path.is_dir() else [path] for path in code]
    files = [file for folder in folders for file in folder]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a study: where its rows are kept once they are measured.

    Args:
        folder: where parts are kept.
        name: for people.
        settings: everything that the rows depend on; other settings are another file.
        columns: of every table; a file that lacks some is as good as none.
        code: files and folders of the source that makes the rows; other code is another file.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    columns: dict[str, list[str]]
    code: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The file, named by a digest of the settings and of the code."""
        key = {"seqcells": sc.__version__, "code": fingerprint(self.code), **self.settings}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{self.name}-{digest[:10]}.json"

    def load(self) -> dict[str, Any] | None:
        """Return the rows and what they were made with, or None if they are not there whole."""
        try:
            content = json.loads(self.path.read_text())
            rows, _ = content["rows"], content["made_with"]
            lines = [(line, names) for table, names in self.columns.items() for line in rows[table]]
            return content if all(set(names) <= set(line) for line, names in lines) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, rows: Rows) -> None:
        """Write the rows, whole or not at all."""
        content = {"settings": self.settings, "made_with": made_with(), "rows": rows}
        write_whole(self.path, json.dumps(content, indent=1))


def made_with() -> dict[str, Any]:
    """Tell with what rows are made, and when."""
    return {
        "seqcells": sc.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "machine": machine.processor(),
        "date": machine.today(),
        "commit": machine.commit("seqcells", ":(glob)experiments/**/*.py"),
    }


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


def measure(groups: Sequence[Group], out: Path, console: Console, about: About) -> None:
    """Measure the groups that are not finished, with a bar; write a CSV file a table.

    Args:
        groups: what to measure.
        out: the folder to write to.
        console: where the bar is drawn and finished groups are named.
        about: what a report tells of the run, such as its settings; kept beside the tables.
    """
    for folder in dict.fromkeys([out, *(group.part(out).folder for group in groups)]):
        writable(folder)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        TextColumn("{task.completed:.0f} of {task.total:.0f} steps"),
        TimeElapsedColumn(),  # no time left is told: groups and steps differ too much in cost
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("")
        for i, group in enumerate(groups, 1):
            text = f"group {i} of {len(groups)}, {group.name}"
            bar.update(task, description=text, completed=0, total=group.steps)
            part, start = group.part(out), time.perf_counter()
            kept = part.load() is not None
            if not kept:
                part.save(group.measure(lambda steps: bar.update(task, completed=steps)))
            seconds = time.perf_counter() - start
            console.print(f"{group.name:24} {'kept' if kept else f'{seconds:.0f} s'}")
            _collect(groups, out, about)


def _collect(groups: Sequence[Group], out: Path, about: About) -> None:
    """Write the tables from the finished parts, and what was run."""
    parts = {group.name: group.part(out).load() for group in groups}
    done = [part for part in parts.values() if part]
    for table, names in groups[0].part(out).columns.items():
        rows = [row for part in done for row in part["rows"][table]]
        write_whole(out / f"{table}.csv", pd.DataFrame(rows, columns=names).to_csv(index=False))
    made_with: list[Any] = []
    for part in done:
        made_with += [part["made_with"]] if part["made_with"] not in made_with else []
    unfinished = [name for name, part in parts.items() if part is None]
    write_about(out, {**about, "made_with": made_with, "unfinished": unfinished})
