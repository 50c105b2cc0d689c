"""The numbers of a run, and their summary in sentences."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import seqcells as sc
from experiments import lab
from experiments.lab import AT_END, AT_START, Count, Frame, decimal, interval, pick, short, words

RECALL, RATES, ADDING = "recall", "rates", "adding"  # "rates": recall at another learning rate
RESULTS = ("task", "arm", "lag", *lab.COLUMNS)
FIT = (10, 90)  # lags between which a decay is fitted, cut to those that were measured
LONG = 100  # a horizon of at least this many times the longest lag is "no decay"


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The tables of a run, which may be incomplete, and numbers computed from them."""

    results: Frame  # the columns RESULTS, one row per run
    gradients: Frame  # the columns of GradientByLag
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # if they are stored

    @functools.cached_property
    def arms(self) -> list[str]:
        """The cells, in the order of the study."""
        return list(dict.fromkeys([*self.results["arm"], *self.gradients["arm"]]))

    @functools.cached_property
    def lags(self) -> list[int]:
        """Lags of delayed recall, shortest first."""
        return sorted(set(pick(self.results, task=RECALL)["lag"]))

    @functools.cached_property
    def longest(self) -> int:
        """The longest lag, which is also the length of the tasks, in steps."""
        return int(self.results["lag"].max())

    @functools.cached_property
    def traced(self) -> list[str]:
        """The cells whose gradients were measured."""
        return list(dict.fromkeys(self.gradients["arm"]))

    def ran(self, task: str) -> list[str]:
        """The cells that were trained on a task."""
        return list(dict.fromkeys(pick(self.results, task=task)["arm"]))

    def count(self, task: str, arm: str, **where: float) -> Count:
        """How many seeds solved a task, at a lag if one is given."""
        return lab.count(pick(self.results, task=task, arm=arm, **where))

    def furthest(self, arm: str) -> Count:
        """How many seeds recall the longest lag."""
        return self.count(RECALL, arm, lag=self.longest)

    def rate(self, task: str, arm: str) -> float:
        """Learning rate of a cell on a task."""
        return float(pick(self.results, task=task, arm=arm)["learning_rate"].iloc[0])

    def by_rate(self, arm: str) -> dict[float, Count]:
        """How many seeds recall the longest lag, by learning rate, lowest first."""
        rows = pick(self.results, arm=arm, lag=self.longest)
        rows = rows[rows["task"] != ADDING]
        return {rate: lab.count(group) for rate, group in rows.groupby("learning_rate")}

    def gradient(self, arm: str, when: str) -> np.ndarray:
        """Gradient norm by lag, float[T + 1], relative to lag 0; NaN where lag 0 has none."""
        rows = pick(self.gradients, arm=arm, when=when).sort_values("lag")
        norms = rows["norm"].to_numpy(float)
        return norms / (norms[0] or math.nan)

    def left(self, when: str) -> dict[str, float]:
        """Relative gradient norm at the longest lag by cell, largest first, NaN last."""
        left = {arm: float(self.gradient(arm, when)[-1]) for arm in self.traced}
        return dict(sorted(left.items(), key=lambda item: (math.isnan(item[1]), -item[1])))

    def horizon(self, arm: str, when: str) -> str:
        """Steps in which the gradient falls by a factor e, or why there is no such number.

        One of "not a number", "grows", "no decay" (slower than these lags can show), or the steps.
        """
        norms = self.gradient(arm, when)
        window = min(FIT[0], len(norms) - 2), min(FIT[1], len(norms) - 1)
        rate, horizon = map(float, sc.diagnostics.rate_and_horizon(norms, window))
        slow = 1 / (LONG * self.longest)  # in e-foldings a step
        if math.isnan(rate):
            return "not a number"
        if rate > 1 and math.log(rate) > slow:
            return "grows"
        return short(horizon) if 1 / horizon > slow else "no decay"


def read(out: Path, name: str) -> Numbers:
    """Read the tables of a run, and its settings if they are there."""
    tables = lab.read_tables(out, name, RESULTS, gradients=lab.GradientByLag.columns)
    return Numbers(**tables, settings=lab.read_about(out).get("settings", {}))


def headlines(n: Numbers) -> list[str]:
    """Return three sentences: which cells recall, the effect of the rate, and the gradient left."""
    counts = {arm: n.furthest(arm) for arm in n.ran(RECALL)}
    order = sorted(counts, key=lambda arm: -counts[arm].k)
    recall = [f"{arm} {counts[arm].k} of {counts[arm].n}" for arm in order]
    left = [f"{short(value)} for {arm}" for arm, value in n.left(AT_START).items()]
    step = f"At initialisation, the gradient {n.longest} steps back, relative to that at the last"
    return [
        *_sentence(f"Seeds that recall a symbol seen {n.longest} steps before:", recall),
        *_at_other_rates(n),
        *_sentence(f"{step} step, is", left),
    ]


def findings(n: Numbers) -> list[str]:
    """Return the other findings, one sentence each, with intervals."""
    recall = {arm: n.furthest(arm) for arm in n.ran(RECALL)}
    lags = "; ".join(f"{arm} {_lags(n, arm)}" for arm in recall)
    rates = "; ".join(f"{arm} at {_rates(n, arm)}" for arm in recall)
    adding = {arm: n.count(ADDING, arm) for arm in n.ran(ADDING)}
    solved = [f"{arm} {c.k} of {c.n} ({interval(c.k, c.n)})" for arm, c in adding.items()]
    flattered = [
        f"{arm}, of whose seeds most add, but {c.k or 'none'} of {c.n} recall"
        for arm, c in recall.items()
        if n.count(ADDING, arm).most and not c.most
    ]
    return [
        *_sentence("Lags that most seeds recall:", [lags]),
        *_sentence(f"Learning rates at which most seeds recall a lag of {n.longest}:", [rates]),
        *_sentence(f"At initialisation, the gradient {n.longest} steps back:", _pace(n, AT_START)),
        *_sentence(f"After training, the gradient {n.longest} steps back:", _pace(n, AT_END)),
        *_sentence(f"Seeds that solve adding over {n.longest} steps:", solved),
        *_sentence(f"Over the same {n.longest} steps, adding flatters", flattered),
    ]


def _sentence(start: str, items: list[str], end: str = ".") -> list[str]:
    """Return one sentence, or none if there are no items."""
    return [f"{start} {words(items)}{end}"] if any(items) else []


def _at_other_rates(n: Numbers) -> list[str]:
    """Return whether cells that fail at their own learning rate succeed at another."""
    helped, failed = [], []
    for arm in [arm for arm in n.ran(RECALL) if not n.furthest(arm).most]:
        good = {rate: c for rate, c in n.by_rate(arm).items() if c.most}
        if not good:
            failed.append(arm)
            continue
        rate, c = max(good.items(), key=lambda item: item[1].k / item[1].n)
        helped.append(
            f"{arm} at {decimal(rate)}, {short(rate / n.rate(RECALL, arm))} times its own, with "
            f"{c.k} of {c.n} seeds (95 % Wilson interval {interval(c.k, c.n)})"
        )
    hint = "a hint, not a proof, that the learning rate was the obstacle, not the cell."
    if helped:
        start, end = "At another learning rate most seeds recall it too:", "; so few seeds are "
        return _sentence(start, helped, end + hint)
    return _sentence("No learning rate that was tried lets most seeds of", failed, " do so.")


def _lags(n: Numbers, arm: str) -> str:
    """Return the lags that most seeds recall, at the cell's own learning rate."""
    good = [n.count(RECALL, arm, lag=lag).most for lag in n.lags]
    odd = any(later and not sooner for sooner, later in itertools.pairwise(good))
    lags = [str(lag) for lag, is_good in zip(n.lags, good, strict=True) if is_good] or ["none"]
    return words(lags) + " (a longer one, but not a shorter one)" * odd


def _rates(n: Numbers, arm: str) -> str:
    """Return the learning rates, of those tried, at which most seeds recall the longest lag."""
    counts = n.by_rate(arm)
    good = [decimal(rate) for rate, c in counts.items() if c.most] or ["none"]
    return f"{words(good)} of {words([decimal(rate) for rate in counts])}"


def _pace(n: Numbers, when: str) -> list[str]:
    """Return the gradient left at the longest lag, and how fast it falls, by cell."""

    def pace(horizon: str) -> str:
        return f"a factor e every {horizon} steps" if horizon[0].isdigit() else horizon

    left = n.left(when)
    return [f"{short(left[arm])} for {arm} ({pace(n.horizon(arm, when))})" for arm in left]
