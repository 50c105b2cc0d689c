"""The files of a run, which are written atomically."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.lab.claims import Frame
from experiments.lab.settings import BadInput
from seqcells.sweep._files import write_whole as write_whole

ABOUT = "run.json"  # next to the tables: command, settings, provenance, and unfinished groups
Json = dict[str, Any]  # the content of a JSON file, such as run.json


def writable(out: Path, remedy: str = "give another with --out") -> Path:
    """Make the folder; raise an error that names it if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(
            f"out: expected a folder to write to, got {out} ({error.strerror}); {remedy}"
        ) from None
    return out


def read_table(path: Path, columns: Sequence[str], hint: str) -> Frame:
    """Read a CSV table; it has no rows if there is no file.

    Args:
        path: the file.
        columns: columns that the table must have.
        hint: what to do about a wrong file, for the error message.

    Raises:
        BadInput: the file is not a CSV table, or lacks one of the columns.
    """
    try:
        rows = pd.read_csv(path, encoding="utf-8", dtype={"commit": str})  # or 12e4567 is a number
    except FileNotFoundError:
        return pd.DataFrame(columns=[*columns])
    except ValueError as error:  # pandas' own errors are subclasses
        raise BadInput(f"{path}: expected a CSV table ({error}); {hint}") from None
    missing = [column for column in columns if column not in rows]
    if missing:
        raise BadInput(
            f"{path}: expected the columns {', '.join(columns)}, "
            f"got none named {', '.join(missing)}; {hint}"
        )
    return rows


def read_about(out: Path) -> Json:
    """Read `run.json`; return {} if it is missing or cannot be read."""
    try:
        content = json.loads((out / ABOUT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_about(out: Path, about: Json) -> None:
    """Write `run.json`."""
    write_whole(out / ABOUT, json.dumps(about, indent=1))
