"""Tables in CSV files, whose rows are replaced group by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.lab import read_table, write_whole

Row = dict[str, Any]  # a number, a text or a bool in each column


def split_groups(rows: list[Row], keys: Sequence[str]) -> dict[tuple, list[Row]]:
    """Return the rows of each group, by their values in the columns `keys`."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def replace_groups(old: list[Row], new: list[Row], keys: Sequence[str]) -> list[Row]:
    """Replace whole groups of the old rows by those of `new`; replaced groups keep their position.

    Args:
        old: rows of an earlier table.
        new: rows just measured.
        keys: the columns that identify a group.
    """
    merged = split_groups(old, keys) | split_groups(new, keys)
    return [row for group in merged.values() for row in group]


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read the rows of a table; an absent file has none.

    Raises:
        BadInput: if the file is not a CSV table, or lacks one of `columns`.
    """
    frame = read_table(path, columns, "move it away and measure again")
    return [dict(zip(frame, row, strict=True)) for row in frame.to_numpy(object).tolist()]


def write(path: Path, rows: list[Row], columns: Sequence[str]) -> None:
    """Write rows with four significant digits, so that a diff shows relevant changes."""
    frame = pd.DataFrame(rows, columns=list(columns))
    write_whole(path, frame.to_csv(index=False, float_format="%.4g"))
