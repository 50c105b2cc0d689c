"""The numbers of a run, read from its two CSV files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import seqcells as sc
from experiments.lab import BadInput, short

COLUMNS = {
    "results": [
        *("task", "cell", "init", "lag", "seed"),
        *("steps", "loss", "accuracy", "solved", "seconds", "learning_rate"),
    ],
    "gradients": ["cell", "init", "when", "lag", "norm"],
}
WHEN = ("initialisation", "after training")
FIT = (10, 90)  # lags between which a decay is fitted, cut to those there are, steps
LONG = 100  # a horizon of so many times the longest lag is none
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The rows of the two tables, and what is computed from them; some of a run may be missing."""

    results: list[Row]
    gradients: list[Row]

    @classmethod
    def read(cls, out: Path) -> Numbers:
        """Read the tables of a run; raise an error that says what to do where there is none."""
        results, gradients = (_table(out / f"{name}.csv", COLUMNS[name]) for name in COLUMNS)
        if not results:
            raise BadInput(
                f"out: expected results.csv with rows in {out}, found none; "
                "make it with python -m experiments run horizon"
            )
        return cls(results, gradients)

    @property
    def who(self) -> list[str]:
        """The contenders, in the order of the study."""
        return list(dict.fromkeys(row["who"] for row in [*self.results, *self.gradients]))

    @property
    def lags(self) -> list[int]:
        """Lags of delayed recall, shortest first."""
        return sorted({row["lag"] for row in self.of("recall")})

    @property
    def longest(self) -> int:
        """The longest lag, which is the length of the tasks as well, steps."""
        return max(row["lag"] for row in self.results)

    def ran(self, task: str) -> list[str]:
        """The contenders that have rows of a task."""
        return [who for who in self.who if self.of(task, who)]

    def traced(self) -> list[str]:
        """The contenders that have rows of gradients."""
        return [who for who in self.who if any(row["who"] == who for row in self.gradients)]

    def of(self, task: str, who: str | None = None, **where: float) -> list[Row]:
        """Rows of a task, of a contender, at a lag or a learning rate."""
        return [
            row
            for row in self.results
            if row["task"] == task
            and who in (None, row["who"])
            and all(row[name] == value for name, value in where.items())
        ]

    def solved(self, task: str, who: str, **where: float) -> tuple[int, int]:
        """How many members solved the task, of how many."""
        rows = self.of(task, who, **where)
        return sum(row["solved"] for row in rows), len(rows)

    def most(self, task: str, who: str, **where: float) -> bool:
        """Whether more than half of the members solved the task."""
        k, n = self.solved(task, who, **where)
        return 2 * k > n

    def rate(self, task: str, who: str) -> float:
        """Learning rate of a contender on a task."""
        return self.of(task, who)[0]["learning_rate"]

    def by_rate(self, who: str) -> dict[float, tuple[int, int]]:
        """How many seeds recall the longest lag, of how many, by learning rate, lowest first."""
        rows = self.of("rates", who) + self.of("recall", who, lag=self.longest)
        counts: dict[float, tuple[int, int]] = {}
        for row in sorted(rows, key=lambda row: row["learning_rate"]):
            k, n = counts.get(row["learning_rate"], (0, 0))
            counts[row["learning_rate"]] = k + row["solved"], n + 1
        return counts

    def by_factor(self, who: str) -> dict[float, tuple[int, int]]:
        """The same by multiple of the contender's own learning rate."""
        own = self.rate("recall", who)
        return {float(f"{rate / own:.6g}"): count for rate, count in self.by_rate(who).items()}

    def gradient(self, who: str, when: str) -> np.ndarray:
        """Gradient norm by lag, relative to lag 0; NaN where that is no number."""
        rows = [row for row in self.gradients if (row["who"], row["when"]) == (who, when)]
        norms = np.array([row["norm"] for row in sorted(rows, key=lambda row: row["lag"])])
        return norms / (norms[0] or math.nan)

    def left(self, who: str, when: str) -> float:
        """Gradient norm at the longest lag, relative to lag 0."""
        return float(self.gradient(who, when)[-1])

    def horizon(self, who: str, when: str) -> str:
        """Steps in which the gradient falls by e, fitted over FIT, or why there is no such number.

        One of "not a number", "grows", "no decay" (slower than anything that the lags can show),
        or the steps.
        """
        norms = self.gradient(who, when)
        window = min(FIT[0], len(norms) - 2), min(FIT[1], len(norms) - 1)
        rate, horizon = map(float, sc.diagnostics.rate_and_horizon(norms, window))
        slow = 1 / (LONG * self.longest)  # in e-foldings a step
        if math.isnan(rate):
            return "not a number"
        if rate > 1 and math.log(rate) > slow:
            return "grows"
        return short(horizon) if 1 / horizon > slow else "no decay"


def _table(path: Path, columns: list[str]) -> list[Row]:
    """Read the rows of a CSV file; none where there is no file."""
    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        return []
    except ValueError as error:  # pandas' own errors are such
        raise BadInput(f"{path}: expected a CSV table ({error}); {_ANEW}") from None
    missing = [name for name in columns if name not in frame]
    if missing:
        raise BadInput(
            f"{path}: expected the columns {', '.join(columns)}, "
            f"got none named {', '.join(missing)}; {_ANEW}"
        )
    rows = [dict(zip(frame, row, strict=True)) for row in frame.to_numpy(object).tolist()]
    return [{"who": f"{row['cell']} {row['init']}", **row} for row in rows]


_ANEW = "make it anew with python -m experiments run horizon"
