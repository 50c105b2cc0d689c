"""Read and check the files of a sweep; errors name the file, the line and what to do."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqcells._types import Json

Row = Json
Fields = dict[str, type | tuple[type, ...]]
_NUMBER = (int, float)
TRIAL: Fields = {"id": str, "status": str, "steps": int, "metrics": dict, "seconds": _NUMBER}
METRICS: Fields = {"id": str, "step": int, "metrics": dict}
SETTINGS: Fields = {"config": dict, "widths": dict}
DRIVER: Fields = {"run": str}
MACHINE: Fields = {"jax": str, "devices": int, "processor": str}
BATCH: Fields = {"config": dict, "bucket": str, "width": int, "ids": list}
_REMEDY = "put back a copy of the file, or remove the line"
REMEDIES = {
    "trials.jsonl": f"{_REMEDY}; then its trial is trained again",
    "metrics.jsonl": f"{_REMEDY}; then the curve of a trial lacks a point",
    "sweep.json": "put back a copy of the file, or take another folder",
    "driver.json": "remove it",
    "machine.json": "put back a copy of the file, or take another folder",
    "batch.json": "remove its folder; then its trials are trained again",
}


def read_lines(path: Path, fields: Fields, *, truncate: bool = False) -> list[Row]:
    """Read the complete lines of a file; none if the file does not exist.

    Args:
        path: the file, with one JSON object per line.
        fields: the required fields and their types.
        truncate: remove an incomplete last line, which a killed process left.

    Raises:
        ValueError: a line is damaged; the file stays as it is.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    rows = [
        _restored(_parsed(line, fields, lambda got, n=n: f"line {n} of {path} with {got}", path))
        for n, line in enumerate(data[:whole].splitlines(), 1)
    ]
    if truncate and whole < len(data):
        os.truncate(path, whole)
    return rows


def read_json(path: Path, fields: Fields) -> Json | None:
    """Read a file with one JSON object; None if there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.exists():
        return None
    content = _parsed(path.read_bytes(), fields, lambda got: f"{path} with {got}", path)
    pairs = content.get("widths", {})
    if not all(
        isinstance(pair, list) and list(map(type, pair)) == [int, int] for pair in pairs.values()
    ):
        raise _damaged(fields, f"{path} with other widths", path)
    return content


def _parsed(data: bytes, fields: Fields, where: Callable[[str], str], path: Path) -> Json:
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):  # also raised for invalid UTF-8
        value = None
    if not isinstance(value, dict):
        raise _damaged(fields, where(f"{data[:40]!r}"), path)
    wrong = [name for name, kinds in fields.items() if not _is(name, value.get(name), kinds)]
    if wrong:
        got = f"{value[wrong[0]]!r:.40}" if wrong[0] in value else "nothing"
        raise _damaged(fields, where(f"{got} for {wrong[0]}"), path)
    return value


def _is(name: str, value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a value has the type of a field; metrics are numbers, or null for NaN."""
    if name == "metrics" and isinstance(value, dict):
        return all(one is None or type(one) in _NUMBER for one in value.values())
    return isinstance(value, kinds) and not isinstance(value, bool)


def _damaged(fields: Fields, got: str, path: Path) -> ValueError:
    names = ", ".join(fields)
    return ValueError(f"out: expected a JSON object with {names}, got {got}; {REMEDIES[path.name]}")


def _restored(row: Row) -> Row:
    """Replace null by NaN, because NaN is written as null."""
    row["metrics"] = {n: math.nan if v is None else v for n, v in row["metrics"].items()}
    return row
