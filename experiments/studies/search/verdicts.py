"""The claims on searches, judged by the tables of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments import lab
from experiments.studies.search.problems import (
    ALONE,
    QUADRATICS,
    RANDOM,
    TABLES,
    TPE,
    Settings,
)

KEYS = ["problem", "arm", "seed"]  # the columns that name a search
Judge = Callable[["Found"], lab.Verdict]


@dataclasses.dataclass(frozen=True)
class Found:
    """The tables of a run."""

    results: lab.Frame
    curves: lab.Frame

    @property
    def searches(self) -> lab.Frame:
        """The results, with the best of the random search of the same problem and seed.

        Further columns: `goal`, that best; `ratio`, the best loss divided by it; and `needed`, the
        trials until the search was as good, infinite if it never was.
        """
        goals = lab.pick(self.results, arm=RANDOM).set_index(["problem", "seed"])["best"]
        rows = self.results.join(goals.rename("goal"), on=["problem", "seed"])
        points = self.curves.merge(rows[[*KEYS, "goal"]], on=KEYS)
        good = points[points["best"] <= points["goal"]]
        needed = good.groupby(KEYS)["trial"].min().rename("needed")
        rows = rows.join(needed, on=KEYS).fillna({"needed": math.inf})
        return rows.assign(ratio=rows["best"] / rows["goal"])


def read(out: Path, name: str) -> Found:
    """Read the tables of a run."""
    return Found(**lab.read_tables(out, name, TABLES["results"], curves=TABLES["curves"]))


def trials_text(needed: Sequence[float], samples: int) -> str:
    """Format the trials that were needed: the median over the seeds, and the range."""
    low, median, high = (
        count_text(value, samples) for value in (min(needed), float(np.median(needed)), max(needed))
    )
    return f"{median} trials (median of {len(needed)} seeds, from {low} to {high})"


def count_text(needed: float, samples: int) -> str:
    """Format a number of trials, which is infinite if all of a search were too few."""
    return f"more than {samples}" if math.isinf(needed) else f"{needed:.0f}"


def _soon(problem: str, s: Settings) -> Judge:
    """Judge that most searches of a problem need at most half of the trials."""

    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.searches, problem=problem, arm=TPE)
        if rows.empty:
            return lab.NOT_RUN
        within = s.samples // 2
        k, n = int((rows["needed"] <= within).sum()), len(rows)
        low, high = lab.wilson(k, n)
        share = f"{k} of {n} within {within} (95 % interval {lab.interval(k, n)})"
        text = f"{trials_text(rows['needed'], s.samples)}; {share}"
        return lab.Verdict(lab.Interval(low, k / n, high).within(0.5, 1), text)

    return judge


def _ratio(values: Sequence[float], low: float, high: float) -> lab.Verdict:
    ratio = lab.of_losses(values)
    ends = f"{lab.short(ratio.low)} to {lab.short(ratio.high)}"
    return lab.Verdict(ratio.within(low, high), f"{lab.short(ratio.mid)} times ({ends})")


def _better(problem: str) -> Judge:
    """Judge that the best loss is below that of the random search."""

    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.searches, problem=problem, arm=TPE)
        return _ratio(rows["ratio"], 0, 1) if len(rows) else lab.NOT_RUN

    return judge


def _as_alone(found: Found) -> lab.Verdict:
    """Judge that searches need as many trials as those of Optuna without seqcells, within 2.

    One that never was as good counts as if its last trial had been.
    """
    rows = found.searches
    rows = rows.assign(needed=rows["needed"].clip(upper=rows["trials"]))
    by_arm = rows.pivot(index=["problem", "seed"], columns="arm", values="needed")
    if not {TPE, ALONE} <= {*by_arm}:
        return lab.NOT_RUN
    pairs = by_arm[[TPE, ALONE]].dropna()
    return _ratio(pairs[TPE] / pairs[ALONE], 0.5, 2) if len(pairs) else lab.NOT_RUN


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    within = s.samples // 2
    own = [
        claim
        for name in s.problems
        for claim in (
            lab.Claim(
                f"{name}: TPE in batches of {s.batch} reaches random search's best of {s.samples} "
                f"within {within} trials, for most seeds",
                "ours",
                _soon(name, s),
            ),
            lab.Claim(
                f"{name}: the best of {s.samples} trials is lower by TPE than by random search",
                "ours",
                _better(name),
            ),
        )
    ]
    alone = lab.Claim(
        "Quadratics: seqcells.sweep.search needs as many trials as Optuna alone (0.5 to 2 times)",
        "ours",
        _as_alone,
    )
    return [*own, *[alone] * any(name in QUADRATICS for name in s.problems)]
