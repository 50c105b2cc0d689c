"""What reports share: intervals, numbers as words, tables, and the page that opens offline."""

from __future__ import annotations

import base64
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text
from scipy import stats

from experiments._markdown import markdown
from experiments._study import write_whole


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with what its columns mean."""

    title: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    texts: int = 1  # columns that hold text, from the left; the others hold numbers


@functools.cache
def wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, k of n."""
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def interval(k: int, n: int) -> str:
    """Write the 95 % Wilson interval of a share."""
    low, high = wilson(k, n)
    return f"{low:.2f} to {high:.2f}"


def words(items: list[str]) -> str:
    """Join items as a sentence does: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def short(value: float) -> str:
    """Write a number with two digits that count: 0.012, 390, 1.7e-4."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    mantissa, exponent = f"{value:.1e}".split("e")
    if value == 0 or -3 <= int(exponent) < 4:
        return f"{float(f'{value:.2g}'):g}"
    return f"{float(mantissa):g}e{int(exponent)}"


def decimal(value: float) -> str:
    """Write a setting with three digits that count and no exponent: 0.0005, 0.000167."""
    return f"{float(f'{value:.3g}'):.12f}".rstrip("0").rstrip(".")


def say(console: Console, text: str) -> None:
    """Print text as it is: what stands in brackets is no markup, and a path is not broken."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """Print a table; where the console is too narrow, without its last columns."""
    shown = len(table.head)
    while shown > 1 and _width(console, _cut(table, shown)) > console.width:
        shown -= 1
    console.print(_cut(table, shown))
    if shown < len(table.head):
        left_out = words(table.head[shown:])
        console.print(Text(f"Too narrow here for {left_out}: see the report."))


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


def as_text(table: Table) -> str:
    """Write a table for a page of text."""
    return f"## {table.title}\n\n{table.caption}\n\n{markdown(table.head, table.rows, table.texts)}"


def made(run: dict[str, Any]) -> dict[str, str]:
    """Tell how a run was made, by name."""
    if not run:
        return {"run.json": "not there, so nothing is known of how this was made"}
    settings = {k: v for k, v in run.get("settings", {}).items() if not isinstance(v, dict)}
    machines = [
        ", ".join(f"{k} {v}" for k, v in machine.items()) for machine in run.get("made_with", [])
    ]
    told = {
        **{name: run.get(name, "") for name in ("command", "optimiser")},
        **{name.replace("_", " "): _tell(value) for name, value in settings.items()},
        "made with": "; ".join(machines),
    }
    return {name: text for name, text in told.items() if text}


def _tell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_tell, value))
    return decimal(value) if isinstance(value, float) else str(value)


def write_page(path: Path, picture: Path, **content: Any) -> None:
    """Write a page that holds everything it shows."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text())
    encoded = base64.b64encode(picture.read_bytes()).decode()
    text = Markup(' class="text"')
    write_whole(path, template.render(picture=encoded, text=text, **content))
