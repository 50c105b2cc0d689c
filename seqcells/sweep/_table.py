"""Results as a table: a row per trial, and a rank per configuration over its seeds."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import special

from seqcells import _check
from seqcells.sweep._columns import Column, Lines, Table, as_list
from seqcells.sweep._files import write_whole
from seqcells.sweep._lines import Row
from seqcells.sweep._pbt import PARENT, id_of


class AllFailed(RuntimeError):
    """No trial of a sweep has a finite metric.

    Attributes:
        result: the table.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(
            f"all {len(result.rows)} trials ended with a {result.metric} that is not finite; lower "
            "the learning rate, or look at the first steps in result.history"
        )
        self.result = result


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of a sweep.

    `rows` and `history` are sequences of dicts. Those of a sweep are held as columns, and a dict is
    made when it is looked at: a change of it is lost.

    Attributes:
        rows: a dict per trial: `id`, the fields of the space, `status` ("done", "pruned",
            "diverged" or "unfinished"), `steps` (at which it was pruned, or up to which it was
            finite), metrics (means over its last segment) and `seconds` (wall time without
            compiling, divided among the trials that were alive). With `PBT`, the fields have their
            first values, and a column `final_` and its name the last value of each number.
        history: a dict per trial and segment: `id`, `step` and `metrics`, means over the segment.
            With `PBT`, `metrics` also has the numbers by which the segment was trained, by field.
        fields: names of the space.
        metric: the metric by which trials are ranked.
        mode: "min" or "max".
    """

    rows: Sequence[Row]
    history: Sequence[Row]
    fields: tuple[str, ...]
    metric: str
    mode: str

    @classmethod
    def of(
        cls,
        trials: Mapping[str, Column],
        stored: Lines,
        history: Lines,
        *,
        metric: str,
        mode: str,
    ) -> Result:
        """Join the columns of a space with rows, no two of one trial, and with history."""
        ids = set(trials["id"])
        lines = history.where_id([id in ids for id in history.texts["id"].values])
        return cls(_table(trials, stored, metric), lines, tuple(trials)[1:], metric, mode)

    def column(self, name: str) -> Column:
        """Return a column of the rows: an array of numbers, or a list of values of any type."""
        if isinstance(self.rows, Table):
            return self.rows.columns[name]
        return [row[name] for row in self.rows]

    def training(self) -> list[Row]:
        """Return the last line of the history of each unfinished trial that has any."""
        status = zip(self.column("id"), self.column("status"), strict=True)
        left = {id for id, status in status if status == "unfinished"}
        lines = self.history
        if isinstance(lines, Lines):
            lines = lines.where_id([id in left for id in lines.texts["id"].values]).last()
        return list({line["id"]: line for line in lines if line["id"] in left}.values())

    def copies(self) -> list[Row]:
        """Return which trials `PBT` replaced: a dict of `step`, `id` and `parent` per copy.

        After this step, the trial `id` is a copy of the trial `parent`, with other hyperparameters.
        """
        return [
            {"step": line["step"], "id": line["id"], "parent": id_of(line["metrics"][PARENT])}
            for line in self.history
            if PARENT in line["metrics"]
        ]

    def lineage(self, id: str) -> list[Row]:
        """Return how the last state of a trial came about: the schedule that `PBT` found.

        Args:
            id: the id of a trial.

        Returns:
            A line of `history` per segment, in the order of steps: those of the trial, and, before
            it became a copy of another trial, those of the other.

        Raises:
            ValueError: there is no trial with this id.
        """
        if id not in self.column("id"):
            raise ValueError(f"id: expected the id of a row, got {id!r}")
        copies = {(copy["step"], copy["id"]): copy["parent"] for copy in self.copies()}
        lines = {(line["step"], line["id"]): line for line in self.history}
        found = []
        for step in sorted({step for step, _ in lines}, reverse=True):
            id = copies.get((step, id), id)
            found += [lines[step, id]] if (step, id) in lines else []
        return found[::-1]

    def ranked(
        self, over: str | None = "seed", mean: Literal["arithmetic", "geometric"] = "arithmetic"
    ) -> list[Row]:
        """Rank configurations by the mean metric over seeds.

        Configurations with a seed that ended in NaN come last. Among the others, those with more
        steps come first, so that under halving the metric is compared at equal steps.

        Args:
            over: the field whose values are repetitions of one configuration. None means no
                repetitions, as does the default in a space without the field `seed`.
            mean: "geometric", for metrics above 0, makes mean and interval those of the logarithms,
                so that no interval reaches below 0.

        Returns:
            A dict per configuration, the best first: `rank`, its fields, `mean` of the metric over
            the finite seeds, `n` of these seeds, the 95 % interval of Student's t from `low` to
            `high` (NaN for n = 1), `diverged` (number of diverged seeds) and `steps`, their mean.

        Raises:
            ValueError: the space has no field `over`, or there is no such mean.
        """
        if over not in (*self.fields, "seed", None):
            raise ValueError(f"over: expected one of {', '.join(self.fields)}, got {over!r}")
        _check.choice("mean", mean, ("arithmetic", "geometric"))
        rows = np.flatnonzero([status != "unfinished" for status in self.column("status")]).tolist()
        if not rows:
            return []
        names = [name for name in self.fields if name != over]
        fields = {name: _taken(self.column(name), rows) for name in names}
        groups = _numbered(list(fields.values()), len(rows))
        first = np.unique(groups, return_index=True)[1]
        means = self._means(rows, groups, mean)
        order = np.lexsort(
            (
                means["mean"] if self.mode == "min" else -means["mean"],
                -means["steps"],
                np.isnan(means["mean"]),
                means["diverged"] > 0,
            )
        )
        ranks: dict[str, Column] = {"rank": range(1, len(order) + 1)}
        ranks |= {name: _taken(column, first[order].tolist()) for name, column in fields.items()}
        return list(Table(ranks | {name: column[order] for name, column in means.items()}))

    def _means(self, rows: Sequence[int], groups: np.ndarray, mean: str) -> dict[str, np.ndarray]:
        """Return the columns of the ranks of these rows, by the number of their group."""
        status, count = _taken(self.column("status"), rows), int(groups.max()) + 1
        finite = np.asarray([one != "diverged" for one in status])
        values = np.asarray(self.column(self.metric), float)[rows][finite]
        if mean == "geometric":
            values = np.log(np.maximum(values, np.finfo(float).tiny))
        middle, half = _intervals(values, groups[finite], count)
        ends = {"mean": middle, "low": middle - half, "high": middle + half}
        if mean == "geometric":
            ends = {name: np.exp(np.minimum(end, 709.0)) for name, end in ends.items()}
        size, n = (np.bincount(some, minlength=count) for some in (groups, groups[finite]))
        steps = np.bincount(groups, np.asarray(self.column("steps"))[rows]) / size
        return ends | {"n": n, "diverged": size - n, "steps": steps}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, atomically."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = self._columns()
        writer.writerow(columns)
        writer.writerows(zip(*map(as_list, columns.values()), strict=True))
        write_whole(Path(path), text.getvalue())

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame."""
        return _extra("pandas").DataFrame(self._columns())

    def to_polars(self) -> Any:
        """Return the rows as a polars DataFrame; a column of mixed types becomes text.

        Raises:
            ModuleNotFoundError: polars, which no extra installs, is missing.
        """
        return _check.extra("polars", "polars").DataFrame(self._uniform())

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as Parquet; a column of mixed types becomes text, as in a CSV file."""
        _extra("pyarrow")
        table = _extra("pandas").DataFrame(self._uniform())
        table.to_parquet(path, engine="pyarrow", index=False)

    def _columns(self) -> dict[str, Column]:
        return {name: self.column(name) for name in self.rows[0]}

    def _uniform(self) -> dict[str, Column]:
        """Return the columns, as text where Parquet has no type for all values."""
        return {name: _as_text_if_mixed(column) for name, column in self._columns().items()}


def _intervals(
    values: np.ndarray, groups: np.ndarray, count: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and half-widths of Student's intervals by group; NaN without enough values."""
    n = np.bincount(groups, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(groups, values, count) / n
        squares = np.bincount(groups, np.square(values - mean[groups]), count)
        half = special.stdtrit(n - 1, (1 + level) / 2) * np.sqrt(squares / (n - 1) / n)
    return mean, half


def _numbered(columns: Sequence[Sequence[object]], count: int) -> np.ndarray:
    """Number rows by their values, from 0 in the order of their first appearance.

    Values are compared as JSON, which distinguishes 1, 1.0 and True; most are the same few objects.
    """
    key = np.zeros(count, np.int64)
    for column in columns:
        texts: dict[str, int] = {}
        objects = dict(zip(map(id, column), column, strict=True))
        if len(objects) == 1:
            continue
        code = {i: texts.setdefault(json.dumps(v), len(texts)) for i, v in objects.items()}
        key *= len(texts)
        key += np.fromiter(map(code.__getitem__, map(id, column)), np.int64, count)
        key = np.unique(key, return_inverse=True)[1]  # small again, for the next column
    first, inverse = np.unique(key, return_index=True, return_inverse=True)[1:]
    return np.argsort(np.argsort(first))[inverse]


def _taken(column: Column, index: Sequence[int]) -> list[Any]:
    return [column[i] for i in index]


def _table(trials: Mapping[str, Column], stored: Lines, metric: str) -> Table:
    """Join trials with what is stored; a trial of which nothing is stored is unfinished."""
    index = {id: i for i, id in enumerate(stored.texts["id"].decode())}
    at = np.asarray([index.get(id, -1) for id in trials["id"]], int)  # -1: what is appended

    def taken(column: np.ndarray, blank: float) -> np.ndarray:
        return np.append(column, np.asarray(blank, column.dtype))[at]

    status = stored.texts["status"]
    names = [*status.values, "unfinished"]
    metrics = {name: column.values for name, column in stored.metrics.items()}
    return Table(
        {
            **trials,
            "status": [names[code] for code in taken(status.codes, len(status.values)).tolist()],
            "steps": taken(stored.numbers["steps"], 0),
            **{n: taken(c, math.nan) for n, c in (metrics or {metric: np.zeros(0)}).items()},
            "seconds": taken(stored.numbers["seconds"], 0.0),
        }
    )


def _as_text_if_mixed(column: Column) -> Column:
    """Return a column of several types, or with ints beyond 64 bits, as text."""
    if isinstance(column, np.ndarray):
        return column
    kinds = set(map(type, column)) - {type(None)}
    if len(kinds) > 1 or (kinds == {int} and any(_is_long(value) for value in column)):
        return [None if value is None else str(value) for value in column]
    return column


def _is_long(value: int | None) -> bool:
    return value is not None and abs(value) >= 2**63


def _extra(name: str) -> Any:
    return _check.extra(name, "seqcells[sweep]")
