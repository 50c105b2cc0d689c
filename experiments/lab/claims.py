"""Claims: who solved a task is counted, what was claimed is judged by the rows of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.lab.text import interval, wilson

Frame = Any  # pandas.DataFrame of runs, a row each; a type checker cannot follow its columns


class Verdict(NamedTuple):
    """What the rows say of a claim."""

    holds: bool | None  # None where they say nothing
    found: str  # the numbers


class Claim(NamedTuple):
    """What was claimed, and how rows judge it."""

    text: str
    source: str
    judge: Callable[[Frame], Verdict]


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
    def text(self) -> str:
        """Say k of n, with the interval of the share."""
        return f"{self.k} of {self.n} (95 % interval {interval(self.k, self.n)})"

    @property
    def when(self) -> str:
        """Say when half had solved it."""
        return f"more than {self.steps}" if math.isinf(self.median) else f"{self.median:.0f}"


def count(rows: Frame) -> Count:
    """Count who solved it; those that did not are censored, and later than all others."""
    at = rows["solved_at"].where(rows["solved"], math.nan).fillna(math.inf)
    median = float(np.sort(at)[(len(at) - 1) // 2]) if len(at) else math.inf
    steps = int(rows["steps"].max()) if len(rows) else 0
    return Count(int(rows["solved"].sum()), len(rows), median, steps)


def pick(rows: Frame, **where: Any) -> Frame:
    """Take the rows that have these values."""
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def share_at_least(share: float, within: int | None = None, **where: Any) -> Callable[..., Verdict]:
    """Judge that at least a share of some runs solve their task, within some steps."""
    return _share(lambda found: found >= share, within, where)


def share_at_most(share: float, within: int | None = None, **where: Any) -> Callable[..., Verdict]:
    """Judge that at most a share of some runs solve their task, within some steps."""
    return _share(lambda found: found <= share, within, where)


def _share(
    good: Callable[[float], bool], within: int | None, where: dict[str, Any]
) -> Callable[[Frame], Verdict]:
    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return Verdict(None, "not run")
        if within is not None:
            rows = rows.assign(solved=rows["solved"] & (rows["solved_at"] <= within))
        counts = [count(group) for _, group in rows.groupby(places(rows), sort=False)]
        return Verdict(all(good(c.k / c.n) for c in counts), "; ".join(f"{c.text}" for c in counts))

    return judge


def best(rows: Frame) -> Frame:
    """Keep, of rows that differ in learning rate and seed, those of the rate that solves most."""
    found = {rate: count(group) for rate, group in rows.groupby("learning_rate")}  # in order
    return pick(rows, learning_rate=min(found, key=lambda r: (-found[r].k, found[r].median)))


def at_best(rows: Frame) -> Frame:
    """Keep the rows of every arm at its best learning rate, at each task and length."""
    kept = [best(group).index for _, group in rows.groupby(["task", "arm", "length"], sort=False)]
    return rows.loc[[i for index in kept for i in index]]


def ahead(arm: str, other: str, **where: Any) -> Callable[[Frame], Verdict]:
    """Judge that an arm solves tasks more often than another: somewhere, and nowhere less often.

    Both stand at their best learning rate. More often is what 95 % intervals that lie apart say.
    """
    return _compared(arm, other, where, lambda more, less: bool(more) and not less)


def not_behind(arm: str, other: str, **where: Any) -> Callable[[Frame], Verdict]:
    """Judge that an arm solves no task less often than another; see `ahead`."""
    return _compared(arm, other, where, lambda more, less: not less)


def _compared(
    arm: str, other: str, where: dict[str, Any], judge: Callable[[list[str], list[str]], bool]
) -> Callable[[Frame], Verdict]:
    def verdict(rows: Frame) -> Verdict:
        rows, more, less, told, enough = pick(rows, **where), [], [], [], False
        for (task, length), place in rows.groupby(["task", "length"], sort=False):
            one, two = pick(place, arm=arm), pick(place, arm=other)
            if one.empty or two.empty:
                continue
            a, b = count(best(one)), count(best(two))
            told.append(f"{task} {length}: {a.k} of {a.n} against {b.k} of {b.n}")
            more += told[-1:] * (a.interval[0] > b.interval[1])
            less += told[-1:] * (a.interval[1] < b.interval[0])
            enough = enough or wilson(0, a.n)[1] < wilson(b.n, b.n)[0]
        if not told:
            return Verdict(None, "not run")
        few = "" if enough else "; too few seeds to tell"
        return Verdict(judge(more, less) if enough else None, "; ".join(told) + few)

    return verdict


def loss_between(low: float, high: float, **where: Any) -> Callable[[Frame], Verdict]:
    """Judge that the median seed's loss, at the learning rate where it is least, lies between."""

    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return Verdict(None, "not run")
        medians = rows.groupby("learning_rate")["loss"].median()
        told = ", ".join(f"{loss:.3g} at {rate:g}" for rate, loss in medians.items())
        return Verdict(bool(low <= medians.min() <= high), f"median loss {told}")

    return judge


def places(rows: Frame) -> list[str]:
    """The columns that tell runs apart, but for their seeds."""
    return [*rows.columns[: rows.columns.get_loc("learning_rate")], "learning_rate"]
