"""A cache of finished groups of a study, which a later run reads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import jax
import pandas as pd
from rich.console import Console
from rich.progress import TextColumn

import seqcells as sc
from experiments.lab import machine
from experiments.lab.console import progress_bar
from experiments.lab.files import ABOUT, Json, writable, write_about, write_whole

Row = Mapping[str, object]
Rows = Mapping[str, Sequence[Row]]  # {name of the table, such as "results": rows}


@functools.cache
def fingerprint(code: tuple[Path, ...]) -> str:
    """Return a digest of source files, and of all those in folders."""
    folders = [sorted(path.rglob("*.py")) if path.is_dir() else [path] for path in code]
    files = [file for folder in folders for file in folder]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@dataclasses.dataclass(frozen=True)
class Part:
    """The file that keeps the rows of one group.

    Args:
        folder: the folder of the parts.
        name: the name of the group.
        settings: everything that the rows depend on; other settings have another file.
        columns: the columns of every table; a file without one of them counts as missing.
        code: files and folders of the source that measures the rows; other code has another file.
    """

    folder: Path
    name: str
    settings: Mapping[str, object]
    columns: Mapping[str, Sequence[str]]
    code: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The file, named by a digest of the settings and of the code."""
        key = {"seqcells": sc.__version__, "code": fingerprint(self.code), **self.settings}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{self.name}-{digest[:10]}.json"

    def load(self) -> Json | None:
        """Return the rows and their provenance, or None if the file is missing or incomplete."""
        try:
            content = json.loads(self.path.read_text("utf-8"))
            rows, _ = content["rows"], content["made_with"]
            lines = [(line, names) for table, names in self.columns.items() for line in rows[table]]
            return content if all(set(names) <= set(line) for line, names in lines) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, rows: Rows) -> None:
        """Write the rows atomically: a reader sees all of them or none."""
        content = {"settings": self.settings, "made_with": made_with(), "rows": rows}
        write_whole(self.path, json.dumps(content, indent=1))


def made_with() -> dict[str, str]:
    """Return versions, machine, date and commit."""
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
    """A part of a study that is measured and stored as a whole."""

    @property
    def name(self) -> str:
        """The name shown to users."""
        ...

    @property
    def steps(self) -> int:
        """The maximal number of training steps."""
        ...

    def part(self, out: Path) -> Part:
        """Return the file that keeps the rows."""
        ...

    def check(self) -> None:
        """Raise if it cannot be measured, before anything is written."""
        ...

    def measure(self, progress: Callable[[int], None]) -> Rows:
        """Measure the rows; call `progress` with the number of steps done."""
        ...


def measure(groups: Sequence[Group], out: Path, console: Console, about: Json) -> None:
    """Measure the unfinished groups, with a progress bar; write one CSV file per table.

    Args:
        groups: the groups to measure.
        out: the folder to write to.
        console: the console for the bar and the names of finished groups.
        about: information for the report, such as settings; stored next to the tables.
    """
    for folder in dict.fromkeys([out, *(group.part(out).folder for group in groups)]):
        writable(folder)
    if not (out / ABOUT).exists():
        _collect(groups, out, about)  # from here on, the folder is marked as this study's
    steps = TextColumn("{task.completed:.0f} of {task.total:.0f} steps")
    with progress_bar(
        console, steps
    ) as bar:  # not the remaining time, because groups differ too much in cost
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


def _collect(groups: Sequence[Group], out: Path, about: Json) -> None:
    """Write the tables of the finished groups, and `run.json`."""
    parts = {group.name: group.part(out).load() for group in groups}
    done = [part for part in parts.values() if part]
    for table, names in groups[0].part(out).columns.items():
        rows = [row for part in done for row in part["rows"][table]]
        write_whole(out / f"{table}.csv", pd.DataFrame(rows, columns=[*names]).to_csv(index=False))
    machines = [part["made_with"] for part in done]
    distinct = [one for i, one in enumerate(machines) if one not in machines[:i]]
    unfinished = [name for name, part in parts.items() if part is None]
    write_about(out, {**about, "made_with": distinct, "unfinished": unfinished})
