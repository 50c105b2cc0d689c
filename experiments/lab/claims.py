"""Claims, judged by the rows of a run: how many solved their task, and who solves it more often."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.lab.text import interval, wilson

Frame = Any  # pandas.DataFrame of runs, a row each; a type checker cannot follow its columns


class Verdict(NamedTuple):
    """What the rows say of a claim."""

    holds: bool | None  # None where there are no rows to judge it by
    result: str  # the numbers


NOT_RUN = Verdict(None, "not run")
Judge = Callable[[Frame], Verdict]


class Claim(NamedTuple):
    """What was claimed, and how rows judge it."""

    text: str
    source: str
    judge: Judge


class Count(NamedTuple):
    """How many of some runs solved their task, and when."""

    k: int
    n: int
    median: float  # steps by which half had solved it; inf where fewer did
    steps: int  # of training, at most

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the share."""
        return wilson(self.k, self.n)

    @property
    def most(self) -> bool:
        """Whether more than half solved it."""
        return 2 * self.k > self.n

    @property
    def text(self) -> str:
        """`k of n`, with the interval of the share."""
        return f"{self.k} of {self.n} (95 % interval {interval(self.k, self.n)})"

    @property
    def when(self) -> str:
        """The median of the steps, as text."""
        return f"more than {self.steps}" if math.isinf(self.median) else f"{self.median:.0f}"


def count(rows: Frame) -> Count:
    """Count who solved it; those that did not are censored: later than all others."""
    at = rows["solved_at"].where(rows["solved"], math.nan).fillna(math.inf)
    median = float(np.sort(at)[(len(at) - 1) // 2]) if len(at) else math.inf
    steps = int(rows["steps"].max()) if len(rows) else 0
    return Count(int(rows["solved"].sum()), len(rows), median, steps)


def pick(rows: Frame, **where: object) -> Frame:
    """Select the rows that have these values."""
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def share_at_least(share: float, within: int | None = None, **where: object) -> Judge:
    """Judge that at least a share of some runs solve their task, within some steps."""
    return _share(lambda solved: solved >= share, within, where)


def share_at_most(share: float, within: int | None = None, **where: object) -> Judge:
    """Judge that at most a share of some runs solve their task, within some steps."""
    return _share(lambda solved: solved <= share, within, where)


def _share(good: Callable[[float], bool], within: int | None, where: dict[str, object]) -> Judge:
    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return NOT_RUN
        if within is not None:
            rows = rows.assign(solved=rows["solved"] & (rows["solved_at"] <= within))
        groups = rows.groupby(label_columns(rows), sort=False)
        counts = [count(group) for _, group in groups]
        return Verdict(all(good(c.k / c.n) for c in counts), "; ".join(c.text for c in counts))

    return judge


def best(rows: Frame) -> Frame:
    """Select the learning rate that solves most, and of equal ones the one that is soonest."""
    counts = {rate: count(group) for rate, group in rows.groupby("learning_rate")}  # in order
    return pick(rows, learning_rate=min(counts, key=lambda r: (-counts[r].k, counts[r].median)))


def at_best(rows: Frame) -> Frame:
    """Select the rows of every arm at its best learning rate, at each task and length."""
    kept = [best(group).index for _, group in rows.groupby(["task", "arm", "length"], sort=False)]
    return rows.loc[[i for index in kept for i in index]]


def ahead(arm: str, other: str, **where: object) -> Judge:
    """Judge that an arm solves tasks more often than another: somewhere, and nowhere less often.

    Each is at its best learning rate. One solves a task more often where the 95 % intervals do not
    overlap.
    """
    return _compared(arm, other, where, lambda more, less: more and not less)


def not_behind(arm: str, other: str, **where: object) -> Judge:
    """Judge that an arm solves no task less often than another; see `ahead`."""
    return _compared(arm, other, where, lambda more, less: not less)


def _compared(
    arm: str, other: str, where: dict[str, object], judge: Callable[[bool, bool], bool]
) -> Judge:
    def verdict(rows: Frame) -> Verdict:
        rows, pairs = pick(rows, **where), {}
        for (task, length), here in rows.groupby(["task", "length"], sort=False):
            one, two = pick(here, arm=arm), pick(here, arm=other)
            if not (one.empty or two.empty):
                pairs[f"{task} {length}"] = count(best(one)), count(best(two))
        if not pairs:
            return NOT_RUN
        texts = [f"{name}: {a.k} of {a.n} against {b.k} of {b.n}" for name, (a, b) in pairs.items()]
        if not any(wilson(0, a.n)[1] < wilson(b.n, b.n)[0] for a, b in pairs.values()):
            return Verdict(None, "; ".join(texts) + "; too few seeds to tell")
        more = any(a.interval[0] > b.interval[1] for a, b in pairs.values())
        less = any(a.interval[1] < b.interval[0] for a, b in pairs.values())
        return Verdict(judge(more, less), "; ".join(texts))

    return verdict


def loss_between(low: float, high: float, **where: object) -> Judge:
    """Judge that the median seed's loss, at the learning rate where it is least, lies between."""

    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return NOT_RUN
        medians = rows.groupby("learning_rate")["loss"].median()
        text = ", ".join(f"{loss:.3g} at {rate:g}" for rate, loss in medians.items())
        return Verdict(bool(low <= medians.min() <= high), f"median loss {text}")

    return judge


def label_columns(rows: Frame) -> list[str]:
    """Return the columns by which runs differ, but for their seeds."""
    return [*rows.columns[: rows.columns.get_loc("learning_rate")], "learning_rate"]
