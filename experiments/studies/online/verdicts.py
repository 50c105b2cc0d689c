"""The tables of a run, and the judges of its claims."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import special

from experiments import lab
from experiments.studies.online.cosines import Cosines
from experiments.studies.online.learning import BACKWARD, Costs

PERIODIC = "periodic output"


@dataclasses.dataclass(frozen=True)
class Found:
    """The tables of a run."""

    results: lab.Frame
    costs: lab.Frame
    cosines: lab.Frame


def read(out: Path, name: str) -> Found:
    """Read the tables of a run."""
    return Found(**lab.read_tables(out, name, costs=Costs.columns, cosines=Cosines.columns))


Judge = Callable[[Found], lab.Verdict]


def of_results(judge: Callable[[lab.Frame], lab.Verdict]) -> Judge:
    """Judge the rows of the trainings alone."""
    return lambda found: judge(found.results)


def at_equal_operations(task: str, rule: str) -> Judge:
    """Judge that, of a GRU, at most half of the seeds solve a task within backprop's operations.

    RTRL has the gradient of backprop, so its trainings are those of backprop.
    """

    def judge(found: Found) -> lab.Verdict:
        rows, costs = (lab.pick(table, task=task) for table in (found.results, found.costs))
        ours, theirs = f"GRU, {rule}", f"GRU, {BACKWARD}"
        backward = lab.pick(rows, arm=theirs)
        some = backward if rule == "RTRL" else lab.pick(rows, arm=ours)
        by_arm = dict(zip(costs["arm"], costs["operations"], strict=True))
        if some.empty or backward.empty or not {ours, theirs} <= {*by_arm}:
            return lab.NOT_RUN
        factor = by_arm[ours] / by_arm[theirs]
        late = some["solved_at"] > backward["steps"].max() / factor
        one = lab.count(some.assign(solved=some["solved"] & ~late))
        text = f"{one.text}, at {factor:.1f} times the operations a step"
        return lab.Verdict(one.within(0, 0.5), text)

    return judge


def mean(values: Iterable[float]) -> lab.Interval:
    """Return the mean over seeds with Student's 95 % interval."""
    numbers = np.asarray([*values], float)
    mid, half = float(np.mean(numbers)), math.inf
    if len(numbers) > 1:
        quantile = float(special.stdtrit(len(numbers) - 1, 0.975))
        half = quantile * float(np.std(numbers, ddof=1)) / math.sqrt(len(numbers))
    return lab.Interval(mid - half, mid, mid + half)


def long(rows: lab.Frame) -> lab.Frame:
    """Return the mean cosine of each seed over the longer half of the lags."""
    return rows[rows["lag"] >= rows["lag"].max() / 2].groupby("seed")["cosine"].mean()


def whole(rows: lab.Frame) -> lab.Frame:
    """Return the cosine of the whole gradient of each seed."""
    return rows[rows["lag"].isna()].set_index("seed")["cosine"]


def less(
    task: str,
    one: Mapping[str, str],
    two: Mapping[str, str],
    of: Callable[[lab.Frame], lab.Frame],
) -> Judge:
    """Judge that a cosine is smaller than another, by their difference within each seed."""

    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.cosines, task=task)
        low, high = (of(lab.pick(rows, **where)) for where in (one, two))
        if low.empty or high.empty:
            return lab.NOT_RUN
        gap = mean(low - high)
        holds = True if gap.high < 0 else False if gap.low > 0 else None
        text = f"{low.mean():.2f} against {high.mean():.2f} (difference {gap.low:+.2f} to"
        return lab.Verdict(holds, f"{text} {gap.high:+.2f})")

    return judge


def higher_loss(found: Found) -> lab.Verdict:
    """Judge that RFLO ends with a higher loss than backprop, on the published task."""
    rows = lab.pick(found.results, task=PERIODIC)
    losses = {arm: lab.of_losses(some["loss"]) for arm, some in rows.groupby("arm")}
    if len(losses) < 2:
        return lab.NOT_RUN
    one, two = losses["CTRNN, RFLO"], losses[f"CTRNN, {BACKWARD}"]
    holds = True if one.low > two.high else False if one.high < two.low else None
    texts = [f"{lab.short(x.mid)} ({lab.short(x.low)} to {lab.short(x.high)})" for x in (one, two)]
    return lab.Verdict(holds, f"loss {' against '.join(texts)}")
