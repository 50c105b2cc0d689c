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
from typing import Any

import numpy as np
from scipy import special

from seqcells import _check
from seqcells.sweep._pbt import FINAL
from seqcells.sweep._space import Trial
from seqcells.sweep._store import Row, write_whole


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

    Attributes:
        rows: a dict per trial: `id`, the fields of the space, `status` ("done", "pruned",
            "diverged" or "unfinished"), `steps` (at which it was pruned, or up to which it was
            finite), metrics (means over its last segment) and `seconds` (wall time without
            compiling, divided among the trials that were alive). With `PBT`, the fields have their
            first values, and columns `final_` and a field its last value.
        history: a dict per trial and segment: `id`, `step` and `metrics`, means over the segment.
            With `PBT` also `hparams`, by which the segment was trained, and, if the trial was then
            replaced, `parent`: the id of the trial that it became a copy of.
        fields: names of the space.
        metric: the metric by which trials are ranked.
        mode: "min" or "max".
    """

    rows: tuple[Row, ...]
    history: tuple[Row, ...]
    fields: tuple[str, ...]
    metric: str
    mode: str

    @classmethod
    def of(
        cls,
        trials: Sequence[Trial],
        stored: Mapping[str, Row],
        history: Sequence[Row],
        *,
        metric: str,
        mode: str,
    ) -> Result:
        """Join trials with their rows and history from the store."""
        names = list(dict.fromkeys(name for row in stored.values() for name in row["metrics"]))
        last = list(
            dict.fromkeys(name for row in stored.values() for name in row.get("hparams", ()))
        )
        blank = {"status": "unfinished", "steps": 0, "metrics": {}, "seconds": 0.0}
        rows = tuple(_flat(trial, stored.get(trial.id, blank), names, last) for trial in trials)
        ids = {trial.id for trial in trials}
        lines = tuple(line for line in history if line["id"] in ids)
        return cls(rows, lines, tuple(trials[0].fields), metric, mode)

    def ranked(self, over: str | None = "seed") -> list[Row]:
        """Rank configurations by the mean metric over seeds.

        Configurations with a seed that ended in NaN come last. Among the others, those with more
        steps come first, so that under halving the metric is compared at equal steps.

        Args:
            over: the field whose values are repetitions of one configuration. None means no
                repetitions, as does the default in a space without the field `seed`.

        Returns:
            A dict per configuration, the best first: `rank`, its fields, `mean` of the metric over
            the finite seeds, `n` of these seeds, the 95 % interval of Student's t from `low` to
            `high` (NaN for n = 1), `diverged` (number of diverged seeds) and `steps`, their mean.

        Raises:
            ValueError: the space has no field `over`.
        """
        if over not in (*self.fields, "seed", None):
            raise ValueError(f"over: expected one of {', '.join(self.fields)}, got {over!r}")
        names = [name for name in self.fields if name != over]
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            if row["status"] != "unfinished":
                at = json.dumps([row[name] for name in names])  # JSON distinguishes 1, 1.0 and True
                groups.setdefault(at, []).append(row)
        sign = 1 if self.mode == "min" else -1
        ranks: list[Row] = [
            {name: rows[0][name] for name in names} | self._group(rows) for rows in groups.values()
        ]
        ranks.sort(
            key=lambda r: (r["diverged"] > 0, math.isnan(r["mean"]), -r["steps"], sign * r["mean"])
        )
        return [{"rank": i, **row} for i, row in enumerate(ranks, 1)]

    def _group(self, rows: Sequence[Row]) -> Row:
        values = np.asarray([row[self.metric] for row in rows if row["status"] != "diverged"])
        mean, half = interval(values)
        return {
            "mean": mean,
            "low": mean - half,
            "high": mean + half,
            "n": len(values),
            "diverged": len(rows) - len(values),
            "steps": float(np.mean([row["steps"] for row in rows])),
        }

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
        if id not in {row["id"] for row in self.rows}:
            raise ValueError(f"id: expected the id of a row, got {id!r}")
        by_step: dict[int, dict[str, Row]] = {}
        for line in self.history:
            by_step.setdefault(line["step"], {})[line["id"]] = line
        found = []
        for step in sorted(by_step, reverse=True):
            lines = by_step[step]
            id = lines.get(id, {}).get("parent", id)
            found += [lines[id]] if id in lines else []
        return found[::-1]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, atomically."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(Path(path), text.getvalue())

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame."""
        return _extra("pandas").DataFrame(list(self.rows))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as Parquet; a column of mixed types becomes text, as in a CSV file."""
        _extra("pyarrow")
        table = self.to_pandas()
        for name in table:
            values = [row[name] for row in self.rows]
            if len({type(value) for value in values} - {type(None)}) > 1 or _is_long(values):
                table[name] = [None if value is None else str(value) for value in values]
        table.to_parquet(path, engine="pyarrow", index=False)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the mean and the half-width of Student's interval; NaN without enough values."""
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return mean, math.nan
    quantile = float(special.stdtrit(n - 1, (1 + level) / 2))
    return mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(n)


def _flat(trial: Trial, row: Row, names: Sequence[str], last: Sequence[str]) -> Row:
    metrics = {name: row["metrics"].get(name, math.nan) for name in names}
    head = {"id": trial.id, **trial.fields, "status": row["status"], "steps": row["steps"]}
    final = {FINAL + name: row.get("hparams", {}).get(name, math.nan) for name in last}
    return {**head, **metrics, **final, "seconds": row["seconds"]}


def _is_long(values: Sequence[object]) -> bool:
    """Whether an int exceeds the 64 bits of Parquet."""
    return any(isinstance(value, int) and abs(value) >= 2**63 for value in values)


def _extra(name: str) -> Any:
    return _check.extra(name, "seqcells[sweep]")
