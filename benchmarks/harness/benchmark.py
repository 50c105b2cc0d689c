"""The base class of benchmarks, which measure groups and replace their rows in a table."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from rich.console import Console

from benchmarks.harness import machine, tables
from benchmarks.harness.tables import Row
from experiments.lab import (
    CheckedSettings,
    discover,
    folders,
    load,
    progress_bar,
    say,
    write_whole,
)

RESULTS = Path("runs") / "benchmarks"
S = TypeVar("S")
B = TypeVar("B", bound="BaseSettings")
Report = Callable[[str], None]  # shows the current work next to the progress bar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(abc.ABC, Generic[S]):
    """A subcommand of `python -m benchmarks`.

    Args:
        name: the name on the command line.
        settings: a dataclass of its options; the docstrings of the class and of its fields are the
            help text.
    """

    name: str
    settings: type[S]

    @abc.abstractmethod
    def run(self, settings: S) -> None:
        """Run the command.

        Raises:
            BadInput: if a setting or a file is wrong; its message is printed without a traceback.
        """


def find_commands(package: ModuleType) -> dict[str, Command[Any]]:
    """Return the command of each file and folder of a package, by the name of the file."""
    return {name: load(name, package, Command)[1] for name in discover(package)}


class Group(NamedTuple):
    """Contestants that are timed together; their rows are replaced together."""

    name: str
    measure: Callable[[Report], list[Row]]


class Picture(NamedTuple):
    """A picture of a benchmark's table: its file's name, and the function that draws it."""

    file: str
    draw: Callable[[list[Row], Path], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseSettings(CheckedSettings, abc.ABC):
    """Options of every benchmark, and the preparation of its process."""

    seconds: float = 10.0
    """seconds to time each group; at least five rounds are run"""
    out: Path = RESULTS
    """folder of the tables; a group that is measured again replaces the old one"""

    @abc.abstractmethod
    def session(self) -> AbstractContextManager[float]:
        """Prepare the process for a `with` block, in which groups are listed and measured.

        Returns:
            A context whose value is the time, by `time.monotonic`, after which no group starts.
        """

    @abc.abstractmethod
    def where(self) -> str:
        """Return the machine's name for file names. Call it within the session."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(BaseSettings):
    """Options of a benchmark on a CPU; a benchmark adds its own in a subclass."""

    cores: int = 1
    """number of cores to pin the process to"""

    @contextlib.contextmanager
    def session(self) -> Iterator[float]:
        """Pin the process; there is no limit of time."""
        machine.prepare(self.cores)
        yield math.inf

    def where(self) -> str:
        """Return the name of a CPU with its cores in use."""
        return machine.cpu(machine.cores())


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """Options of a benchmark on several CPU devices."""

    devices: int = 1
    """CPU devices, with one core each"""

    @contextlib.contextmanager
    def session(self) -> Iterator[float]:
        """Prepare the process and its devices; yield the time after which no group starts."""
        machine.prepare(max(self.cores, self.devices), self.devices)
        yield math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(Command[B]):
    """A command that measures groups of contestants, and writes a table and a page.

    Args:
        keys: the columns that identify a group.
        columns: all columns except those of `machine.COLUMNS`, which every table has.
        groups: settings -> the groups to measure; called within the session.
        page: rows of the table -> the page in Markdown.
        picture: the picture that `python -m benchmarks plot` draws, if any.
    """

    keys: Sequence[str]
    columns: Sequence[str]
    groups: Callable[[B], Iterable[Group]]
    page: Callable[[list[Row]], str]
    picture: Picture | None = None

    def run(self, settings: B) -> None:
        """Measure the groups, and print the page of the measured rows."""
        console = Console()
        with settings.session() as end:
            path = self.path(settings)
            with folders.hold(path.parent, folders.BENCHMARKS):
                rows = self.measure(list(self.groups(settings)), path, end, console)
            say(console, f"\n{self.page(rows)}\nTables: {path}, {path.with_suffix('.md')}")

    def measure(
        self, groups: Sequence[Group], path: Path, end: float, console: Console
    ) -> list[Row]:
        """Measure groups with a progress bar; after each, write the table and its page.

        Args:
            groups: the groups to measure.
            path: the table; the page is the file next to it that ends in .md.
            end: the time, by `time.monotonic`, after which no further group starts.
            console: the console for progress.

        Returns:
            The measured rows.
        """
        rows, measured = self.read(path), []
        with progress_bar(console) as bar:
            task = bar.add_task("", total=len(groups))
            for i, group in enumerate(groups):
                if time.monotonic() > end:
                    say(console, f"Time is up: {len(groups) - i} of {len(groups)} are left.")
                    break
                title = f"group {i + 1} of {len(groups)}, {group.name}"
                bar.update(task, description=title, completed=i)
                start = time.perf_counter()
                new = group.measure(lambda s, t=title: bar.update(task, description=f"{t}: {s}"))
                measured += (new := [row | machine.about() for row in new])
                rows = tables.replace_groups(rows, new, self.keys)
                self._write(path, rows)
                say(console, f"{group.name:24} {time.perf_counter() - start:.0f} s")
        return measured

    def path(self, settings: B) -> Path:
        """Return the file of the table. Call it within the session."""
        return settings.out / f"{self.name}-{settings.where()}.csv"

    def read(self, path: Path) -> list[Row]:
        """Return the rows of a table; none if there is no such file."""
        return tables.read(path, [*self.columns, *machine.COLUMNS])

    def _write(self, path: Path, rows: list[Row]) -> None:
        tables.write(path, rows, [*self.columns, *machine.COLUMNS])
        write_whole(path.with_suffix(".md"), self.page(rows))
