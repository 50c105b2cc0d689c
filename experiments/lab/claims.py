"""Claims, judged by the rows of a run: success counts and their comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.lab.intervals import Interval, difference, of_losses, wilson
from experiments.lab.text import interval, short

Frame = Any  # pandas.DataFrame with a row per run; a type checker cannot follow its columns


class Verdict(NamedTuple):
    """The judgement of a claim by the rows."""

    holds: bool | None  # False if it is refuted, None if the rows show neither
    result: str  # the numbers behind it
    measured: bool = True


NOT_RUN = Verdict(None, "not run", measured=False)
RULE = (
    "A claim holds if the 95 % interval lies on its side, is refuted if it lies on the other side, "
    "and is not shown if it covers both. The interval is Wilson's for a share of the seeds, "
    "Newcombe's (1998) for the difference of two shares, each at its best learning rate, and "
    "Student's, of logarithms, for a loss. Claims are judged separately, without a correction for "
    "their number."
)
Judge = Callable[[Frame], Verdict]


class Claim(NamedTuple):
    """A claim, and the function that judges it."""

    text: str
    source: str
    judge: Judge


class Count(NamedTuple):
    """The number of runs that solved their task, and when."""

    k: int
    n: int
    median: float  # steps by which half had solved it; inf if fewer did
    steps: int  # maximal training steps

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the share."""
        return wilson(self.k, self.n)

    def within(self, low: float, high: float) -> bool | None:
        """Whether the share lies between two numbers, judged by its interval."""
        ends = self.interval
        return Interval(ends[0], self.k / self.n, ends[1]).within(low, high)

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
    """Count the runs that solved it; the others are censored, later than all of these."""
    at = rows["solved_at"].where(rows["solved"], math.nan).fillna(math.inf)
    median = float(np.sort(at)[(len(at) - 1) // 2]) if len(at) else math.inf
    steps = int(rows["steps"].max()) if len(rows) else 0
    return Count(int(rows["solved"].sum()), len(rows), median, steps)


def pick(rows: Frame, **where: object) -> Frame:
    """Select the rows that have these values."""
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def all_hold(verdicts: Iterable[bool | None]) -> bool | None:
    """Judge several parts of one claim: it holds if all do, and is refuted if one is."""
    parts = list(verdicts)
    if False in parts:
        return False
    return None if None in parts else True


def share_at_least(share: float, within: int | None = None, **where: object) -> Judge:
    """Judge that at least this share of the runs solve their task, within some steps."""
    return _share((share, 1.0), within, where)


def share_at_most(share: float, within: int | None = None, **where: object) -> Judge:
    """Judge that at most this share of the runs solve their task, within some steps."""
    return _share((0.0, share), within, where)


def _share(ends: tuple[float, float], within: int | None, where: dict[str, object]) -> Judge:
    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return NOT_RUN
        if within is not None:
            rows = rows.assign(solved=rows["solved"] & (rows["solved_at"] <= within))
        groups = rows.groupby(label_columns(rows), sort=False)
        counts = [count(group) for _, group in groups]
        holds = all_hold(c.within(*ends) for c in counts)
        return Verdict(holds, "; ".join(c.text for c in counts))

    return judge


def best(rows: Frame) -> Frame:
    """Select the learning rate that solves most; among equals, the fastest."""
    counts = {rate: count(group) for rate, group in rows.groupby("learning_rate")}  # sorted
    return pick(rows, learning_rate=min(counts, key=lambda r: (-counts[r].k, counts[r].median)))


def at_best(rows: Frame) -> Frame:
    """Select the rows of every arm at its best learning rate, for each task and length."""
    kept = [best(group).index for _, group in rows.groupby(["task", "arm", "length"], sort=False)]
    return rows.loc[[i for index in kept for i in index]]


def ahead(arm: str, other: str, **where: object) -> Judge:
    """Judge that an arm solves at least one task more often than another, and none less often.

    Each arm is at its best learning rate. It solves a task more often if the 95 % interval of the
    difference of the two shares lies above 0.
    """
    return _compared(arm, other, where, any)


def not_behind(arm: str, other: str, **where: object) -> Judge:
    """Judge that an arm solves no task less often: no interval reaches below 0; see `ahead`."""
    return _compared(arm, other, where, all)


def more_often(one: Count, other: Count) -> bool | None:
    """Whether one solved it more often (True), less often (False), or neither is shown (None)."""
    if not wilson(0, one.n)[1] < wilson(other.n, other.n)[0]:
        return None  # too few seeds: not even all against none would differ
    low, high = difference((one.k, one.n), (other.k, other.n))
    return True if low > 0 else False if high < 0 else None


def _compared(
    arm: str, other: str, where: dict[str, object], enough: Callable[[Iterable[bool]], bool]
) -> Judge:
    def verdict(rows: Frame) -> Verdict:
        rows, pairs = pick(rows, **where), {}
        for (task, length), here in rows.groupby(["task", "length"], sort=False):
            one, two = pick(here, arm=arm), pick(here, arm=other)
            if not (one.empty or two.empty):
                pairs[f"{task} {length}"] = count(best(one)), count(best(two))
        if not pairs:
            return NOT_RUN
        found = [more_often(one, two) for one, two in pairs.values()]
        holds = False if False in found else enough(one is True for one in found) or None
        return Verdict(holds, "; ".join(f"{name}: {against(*two)}" for name, two in pairs.items()))

    return verdict


def against(one: Count, other: Count) -> str:
    """Format two counts, with the interval of the difference of their shares."""
    low, high = difference((one.k, one.n), (other.k, other.n))
    return (
        f"{one.k} of {one.n} against {other.k} of {other.n} (difference {low:+.2f} to {high:+.2f})"
    )


def loss_between(low: float, high: float, **where: object) -> Judge:
    """Judge that the mean loss over seeds, at the best learning rate, lies between two numbers."""

    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return NOT_RUN
        by_rate = losses_by_rate(rows)
        least = min(by_rate.values(), key=lambda one: one.mid)
        return Verdict(least.within(low, high), losses_text(by_rate))

    return judge


def losses_by_rate(rows: Frame) -> dict[float, Interval]:
    """Return the mean loss over seeds with its interval, by learning rate."""
    return {rate: of_losses(some) for rate, some in rows.groupby("learning_rate")["loss"]}


def losses_text(by_rate: Mapping[float, Interval]) -> str:
    """Format mean losses with their intervals."""
    ends = {rate: (short(one.low), short(one.high)) for rate, one in by_rate.items()}
    parts = [
        f"{one.mid:.3g} at {rate:g} ({' to '.join(ends[rate])})" for rate, one in by_rate.items()
    ]
    return f"mean loss {', '.join(parts)}"


def label_columns(rows: Frame) -> list[str]:
    """Return the columns by which runs differ, except the seed."""
    return [*rows.columns[: rows.columns.get_loc("learning_rate")], "learning_rate"]
