"""Markdown pages of tables: a row per group, a column per contestant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from benchmarks.harness import machine
from benchmarks.harness.tables import Row, split_groups
from experiments.lab import markdown

NONE = "-"  # placeholder for a missing number
Label = Callable[[list[Row]], str]  # the rows of a group -> the text of a column
Show = Callable[[Row], str]  # the row of a contestant -> the text of its column


def page(
    title: str,
    text: str,
    rows: list[Row],
    sections: Iterable[str],
    about: Sequence[str] = machine.COLUMNS,
) -> str:
    """Format a page: a title, a text, one line for each distinct `about` of rows, sections."""
    origins = dict.fromkeys("; ".join(f"{name} {row[name]}" for name in about) for row in rows)
    made_with = "\n".join(f"- {origin}" for origin in origins)
    return "\n\n".join([f"# {title}", text, made_with, *sections]) + "\n"


def bullets(title: str, lines: Iterable[str]) -> list[str]:
    """Return a section that lists each distinct line once; "" if there are no lines."""
    text = "\n".join(f"- {line}" for line in dict.fromkeys(lines))
    return [f"## {title}\n\n{text}"] if text else []


def grid(
    groups: Iterable[list[Row]],
    labels: Mapping[str, Label],
    names: Iterable[str],
    show: Show,
    *,
    texts: int = 0,
) -> str:
    """Format a Markdown table.

    Args:
        groups: one line for each.
        labels: the first columns, by their titles.
        names: contestants, one column for each.
        show: the text of a contestant's column.
        texts: how many columns hold text, from the left; the others hold numbers.
    """
    names = list(names)
    lines = [
        [*(label(g) for label in labels.values()), *(entry(g, name, show) for name in names)]
        for g in groups
    ]
    return markdown([*labels, *names], lines, texts=texts)


def medians_and_ratios(
    rows: list[Row], keys: Sequence[str], title: str, column: str
) -> Iterator[str]:
    """Format two sections: a column per contestant, and its time over that of the first."""
    groups, names = split_groups(rows, keys).values(), contestants(rows)
    for heading, name in ((title, column), (f"Time over that of {names[0]}", "ratio")):
        yield f"## {heading}\n\n{grid(groups, columns(*keys), names, spread(name))}"


def contestants(rows: list[Row]) -> list[str]:
    """Return the names of the contestants, each once."""
    return list(dict.fromkeys(row["contestant"] for row in rows))


def with_numbers(groups: Iterable[list[Row]], names: Iterable[str], show: Show) -> list[str]:
    """Return those contestants that have a number in at least one group."""
    groups = list(groups)
    return [name for name in names if any(entry(g, name, show) != NONE for g in groups)]


def entry(group: list[Row], name: str, show: Show) -> str:
    """Return the text of a contestant's column; a dash if the group has no such contestant."""
    return next((show(row) for row in group if row["contestant"] == name), NONE)


def columns(*names: str) -> dict[str, Label]:
    """Return labels that are columns of the group."""
    return {name: lambda group, name=name: str(group[0][name]) for name in names}


SIZES: dict[str, Label] = {"B,T,I,H": lambda group: ",".join(str(group[0][n]) for n in "BTIH")}


def number(column: str) -> Show:
    """Return what shows a column with three significant digits."""
    return lambda row: digits(row[column])


def spread(column: str) -> Show:
    """Return what shows a median with its quartiles: 1.32 (1.30-1.35)."""
    ends = [column, f"{column}_low", f"{column}_high"]

    def show(row: Row) -> str:
        median, low, high = (digits(row[end]) for end in ends)
        return f"{median} ({low}-{high})" if math.isfinite(row[column]) else NONE

    return show


def digits(value: float, count: int = 3) -> str:
    """Format a number with `count` significant digits and no exponent: 0.012, 3.20, 1230."""
    if not math.isfinite(value):
        return NONE
    places = 0 if value == 0 else max(0, count - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 6)}f}"
