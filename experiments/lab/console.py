"""Output to a terminal: plain lines, progress bars, and tables cut to its width."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as RichTable
from rich.text import Text

from experiments.lab.pages import Table
from experiments.lab.settings import BadInput
from experiments.lab.text import words
from seqcells._checkpoint import CheckpointError, RunLocked
from seqcells.sweep import AllFailed, WorkersLost

EVERY = 30.0  # seconds between two lines of progress if there is no terminal


def say(console: Console, text: str) -> None:
    """Print text verbatim: brackets are not markup, and paths are not broken."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


class Bar(Progress):
    """A progress bar on a terminal; elsewhere, such as in a log, an occasional line.

    Args:
        columns: the columns of the bar.
        console: the console to draw on.
        first: seconds before the first line.
    """

    def __init__(self, *columns: ProgressColumn, console: Console, first: float) -> None:
        super().__init__(*columns, console=console, transient=True)
        self._next = time.monotonic() + first

    def update(self, task_id: TaskID, **what: Any) -> None:
        """Update the bar; the arguments are those of `Progress.update`."""
        super().update(task_id, **what)
        task = self.tasks[task_id]
        if not self.console.is_terminal and task.completed and time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            say(self.console, f"{task.description}: {task.percentage:.0f} %")


def progress_bar(console: Console, *columns: ProgressColumn, first: float = EVERY) -> Progress:
    """Return a bar that shows the current work, the elapsed time, and further columns."""
    text, bar = TextColumn("{task.description}", markup=False), BarColumn(bar_width=12)
    return Bar(text, bar, TimeElapsedColumn(), *columns, console=console, first=first)


def exit_code(command: Callable[[], object], stopped: str) -> int:
    """Run a command; return its exit code.

    An error that a user can correct is printed as one line, and so is `stopped` after Ctrl-C. The
    code is 2 if a command is rejected, 1 if it fails. Characters that the terminal cannot encode
    are shown as question marks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    errors = Console(stderr=True)
    try:
        command()
    except (BadInput, RunLocked) as error:
        say(errors, str(error))
        return 2
    except (AllFailed, WorkersLost, CheckpointError, ModuleNotFoundError, OSError) as error:
        named = error.errno if isinstance(error, OSError) else str(error)
        if not named or str(error).startswith("No module named"):
            raise  # a bug: the user cannot correct it
        say(errors, str(error))
        return 1
    except KeyboardInterrupt:
        say(errors, stopped)
        return 130
    return 0


def print_list(console: Console, texts: Mapping[str, str]) -> None:
    """Print names with their descriptions."""
    grid = RichTable.grid(padding=(0, 2))
    for name, text in texts.items():
        grid.add_row(Text(name), Text(text))
    console.print(grid)


def print_table(console: Console, table: Table) -> None:
    """Print a table; if the console is too narrow, without its last columns."""
    shown = len(table.head)
    while shown > 1 and _width(console, _cut(table, shown)) > console.width:
        shown -= 1
    console.print(_cut(table, shown))
    if shown < len(table.head):
        hidden = words(table.head[shown:])
        say(console, f"Columns hidden (terminal too narrow): {hidden}; the report has them.")


def _cut(table: Table, shown: int) -> RichTable:
    """Return the first columns of a table."""
    cut = RichTable(title=Text(table.title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(table.head[:shown]):
        side = "left" if i < table.texts else "right"
        cut.add_column(Text(name), justify=side, no_wrap=True)
    for row in table.rows:
        cut.add_row(*map(Text, row[:shown]))
    return cut


def _width(console: Console, table: RichTable) -> int:
    wide = console.options.update_width(10_000)
    return Measurement.get(console, wide, table).maximum
