"""The numbers of a run, read from its two CSV files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import seqcells as sc

FIT = (10, 90)  # lags between which a decay is fitted, cut to those there are, steps
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The rows of the two tables, and what is computed from them."""

    results: list[Row]
    gradients: list[Row]

    @classmethod
    def read(cls, out: Path) -> Numbers:
        """Read the tables of a run; raise an error that says what to do where there is none."""
        tables: list[list[Row]] = []
        for path in (out / "results.csv", out / "gradients.csv"):
            rows = pd.read_csv(path).to_dict("records") if path.exists() else []
            if not rows:
                raise FileNotFoundError(
                    f"out: expected results.csv and gradients.csv with rows in {out}; make them "
                    "with python -m experiments run horizon"
                )
            tables.append([{"who": f"{r['cell']} {r['init']}", **r} for r in rows])  # pyright: ignore[reportCallIssue,reportArgumentType] -- column names are strings
        return cls(*tables)

    @property
    def who(self) -> list[str]:
        """The contenders, in the order of the study."""
        return list(dict.fromkeys(row["who"] for row in self.gradients))

    @property
    def lags(self) -> list[int]:
        """Lags of delayed recall, shortest first."""
        return sorted({row["lag"] for row in self.of("recall")})

    @property
    def reach(self) -> int:
        """The longest lag of a gradient."""
        return max(row["lag"] for row in self.gradients)

    def by_rate(self, who: str) -> dict[float, tuple[int, int]]:
        """How many seeds recall the longest lag, of how many, by learning rate, lowest first."""
        rows = self.of("rates", who) + self.of("recall", who, lag=max(self.lags))
        counts: dict[float, tuple[int, int]] = {}
        for row in sorted(rows, key=lambda row: row["learning_rate"]):
            k, n = counts.get(row["learning_rate"], (0, 0))
            counts[row["learning_rate"]] = k + row["solved"], n + 1
        return counts

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

    def gradient(self, who: str, when: str) -> np.ndarray:
        """Gradient norm by lag, relative to lag 0."""
        rows = [row for row in self.gradients if (row["who"], row["when"]) == (who, when)]
        norms = np.array([row["norm"] for row in sorted(rows, key=lambda row: row["lag"])])
        return norms / norms[0]

    def left(self, who: str, when: str) -> float:
        """Gradient norm at the longest lag, relative to lag 0."""
        return float(self.gradient(who, when)[-1])

    def horizon(self, who: str, when: str) -> float:
        """Steps in which the gradient falls by e, fitted over the lags of FIT."""
        norms = self.gradient(who, when)
        window = min(FIT[0], len(norms) - 2), min(FIT[1], len(norms) - 1)
        return float(sc.diagnostics.rate_and_horizon(norms, window).horizon)

    def rate(self, who: str) -> float:
        """Learning rate of a contender on delayed recall."""
        return self.of("recall", who)[0]["learning_rate"]

    def milliseconds(self, who: str) -> float:
        """Milliseconds a training step of one member takes on delayed recall."""
        rows = self.of("recall", who)
        return float(np.mean([row["seconds"] / row["steps"] for row in rows]) * 1e3)
