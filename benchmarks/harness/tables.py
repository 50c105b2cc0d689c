"""The tables that are kept: a CSV file, replaced group by group, and a Markdown page of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.lab import BadInput, write_whole

Row = dict[str, Any]
NONE = "-"  # of a cell with no number


def replace_groups(old: list[Row], new: list[Row], keys: Sequence[str]) -> list[Row]:
    """Return the old rows with whole groups replaced by those of `new`, which keep their place.

    Args:
        old: rows of an earlier table.
        new: rows just measured.
        keys: the columns that tell groups apart.
    """

    def groups(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
        found: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            found.setdefault(tuple(row[key] for key in keys), []).append(row)
        return found

    return [row for group in (groups(old) | groups(new)).values() for row in group]


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read the rows of a table; none where there is no file."""
    try:
        frame = pd.read_csv(path, dtype={"commit": str})  # or 12e4567 is a number
    except FileNotFoundError:
        return []
    except ValueError as error:  # pandas' own errors are such
        raise BadInput(f"{path}: expected a CSV table ({error}); move it away") from None
    missing = [name for name in columns if name not in frame]
    if missing:
        raise BadInput(
            f"{path}: expected the columns {', '.join(columns)}, got none named "
            f"{', '.join(missing)}; move it away and measure anew"
        )
    return [dict(zip(frame, row, strict=True)) for row in frame.to_numpy(object).tolist()]


def write(path: Path, rows: list[Row], columns: Sequence[str]) -> None:
    """Write rows with four digits that count, so that a new run changes what has changed."""
    frame = pd.DataFrame(rows, columns=list(columns))
    write_whole(path, frame.to_csv(index=False, float_format="%.4g"))


def digits(value: float, count: int = 3) -> str:
    """Write a number with so many digits that count, and no exponent: 0.012, 3.20, 1230."""
    if not math.isfinite(value):
        return NONE
    places = 0 if value == 0 else max(0, count - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 6)}f}"


def between(row: Row, name: str, count: int = 3) -> str:
    """Write a median with its quartiles: 1.32 (1.30-1.35)."""
    if not math.isfinite(row[name]):
        return NONE
    low, high = digits(row[f"{name}_low"], count), digits(row[f"{name}_high"], count)
    return f"{digits(row[name], count)} ({low}-{high})"


def made_with(rows: list[Row], columns: Sequence[str]) -> str:
    """Say once of each distinct origin which rows come from where."""
    origins = dict.fromkeys("; ".join(f"{name} {row[name]}" for name in columns) for row in rows)
    return "\n".join(f"- {origin}" for origin in origins)
