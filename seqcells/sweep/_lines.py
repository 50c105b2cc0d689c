"""Read and check the files of a sweep; errors name the file, the line and what to do."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
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
_DECODE = json.JSONDecoder().decode
_REMEDY = "put back a copy of the file, or remove the line"
REMEDIES = {
    "trials.jsonl": f"{_REMEDY}; then its trial is trained again",
    "metrics.jsonl": f"{_REMEDY}; then the curve of a trial lacks a point",
    "sweep.json": "put back a copy of the file, or take another folder",
    "driver.json": "remove it",
    "machine.json": "put back a copy of the file, or take another folder",
    "batch.json": "remove its folder; then its trials are trained again",
}


def parse(lines: Sequence[bytes], fields: Fields, number: int, path: Path) -> list[Row]:
    """Parse lines of a log; null in the metrics is NaN, because NaN is written as null.

    Args:
        lines: a JSON object each.
        fields: the required fields and their types.
        number: the number of the first line, from 1, for the error.
        path: the file, for the error.

    Raises:
        ValueError: a line is damaged.
    """
    rows = _parsed_at_once(lines, fields)
    if rows is None:
        where = [f"line {number + i} of {path} with " for i in range(len(lines))]
        rows = [
            _parsed(line.rstrip(b"\n"), fields, at.__add__, path)
            for line, at in zip(lines, where, strict=True)
        ]
    for row in rows:
        if None in row["metrics"].values():
            row["metrics"] = {n: math.nan if v is None else v for n, v in row["metrics"].items()}
    return rows


def _parsed_at_once(lines: Sequence[bytes], fields: Fields) -> list[Row] | None:
    """Parse lines of the form in which they are written; None if any is of another form.

    Types are checked by column, which takes a fraction of the time.
    """
    try:
        rows = [_DECODE(line) for line in b"".join(lines).decode("ascii").split("\n")[:-1]]
        columns = {name: [row[name] for row in rows] for name in fields}
        metrics = [row.values() for row in columns.pop("metrics")]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    types = {name: set(map(type, column)) for name, column in columns.items()}
    usual = all(
        types[name] <= {float if fields[name] is _NUMBER else fields[name]} for name in types
    )
    ints = [max(map(abs, column)) for name, column in columns.items() if types[name] == {int}]
    metric_types = set(map(type, itertools.chain.from_iterable(metrics)))
    if usual and max(ints, default=0) < 2**63 and metric_types <= {float, type(None)}:
        return rows
    return None


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
        return all(one is None or _is_number(one) for one in value.values())
    return isinstance(value, kinds) and (not isinstance(value, _NUMBER) or _is_number(value))


def _is_number(value: Any) -> bool:
    """Whether a value is a number that fits the 64 bits of a column; a bool is none."""
    return type(value) is float or (type(value) is int and -(2**63) <= value < 2**63)


def _damaged(fields: Fields, got: str, path: Path) -> ValueError:
    names = ", ".join(fields)
    return ValueError(f"out: expected a JSON object with {names}, got {got}; {REMEDIES[path.name]}")
