"""The claims on Newton's method in time, judged by the tables of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from experiments import lab
from experiments.studies.newton.measures import MOST, TABLES, TAME, Settings

DEER, GONZALEZ = "Lim et al. 2024 (DEER)", "Gonzalez et al. 2025"


@dataclasses.dataclass(frozen=True)
class Found:
    """The tables of a run."""

    results: lab.Frame
    training: lab.Frame
    times: lab.Frame


def read(out: Path, name: str) -> Found:
    """Read the tables of a run."""
    return Found(**lab.read_tables(out, name, **TABLES))


Judge = Callable[[Found], lab.Verdict]


def _share(good: Iterable[bool], least: float, text: str) -> lab.Verdict:
    """Judge that at least this share is good."""
    values = list(good)
    if not values:
        return lab.NOT_RUN
    k, n = sum(values), len(values)
    low, high = lab.wilson(k, n)
    holds = lab.Interval(low, k / n, high).within(least, 1)
    return lab.Verdict(holds, f"{k} of {n} (95 % interval {lab.interval(k, n)}){text}")


def _flat(arm: str, most: int) -> Judge:
    """Judge that most nets need few iterations at every length."""

    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.results, arm=arm, gain=TAME)
        by_length = rows.groupby("length")["iterations"].max()
        text = ", ".join(f"{length} steps: {n}" for length, n in by_length.items())
        return _share(rows["iterations"] <= most, 0.5, f"; at most, {text}")

    return judge


def _solved_where_stable(arm: str) -> Judge:
    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.results, arm=arm)
        rows = rows[rows["exponent"] < 0]
        count = f"; {rows['converged'].sum()} count as converged" if len(rows) else ""
        return _share(rows["iterations"] < MOST, 0.5, count)

    return judge


def _refused_where_chaotic(arm: str) -> Judge:
    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.results, arm=arm)
        return _share(~rows[rows["exponent"] > 0]["converged"].astype(bool), 0.5, "")

    return judge


def _ordered(arm: str) -> Judge:
    """Judge that exponents order nets of one length as their iterations do."""

    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.results, arm=arm)
        some = rows[rows["length"] == 1000] if 1000 in {*rows["length"]} else rows
        if len(some) < 5 or some["iterations"].nunique() < 2:
            return lab.NOT_RUN
        rank = float(stats.spearmanr(some["exponent"], some["iterations"])[0])  # pyright: ignore
        mid, half = np.arctanh(min(rank, 1 - 1e-9)), lab.Z / math.sqrt(len(some) - 3)
        low, high = np.tanh(mid - half), np.tanh(mid + half)
        holds = lab.Interval(low, rank, high).within(0.8, 1)
        return lab.Verdict(holds, f"rank correlation {rank:.2f} ({low:.2f} to {high:.2f})")

    return judge


def _exact_where_converged(found: Found) -> lab.Verdict:
    rows = found.results[found.results["converged"]]
    ratio = rows["error"] / rows["scan_error"]
    most = f"; at most {lab.short(ratio.max())} times" if len(ratio) else ""
    return _share(ratio <= 4, 0.9, most)


def _bounded(found: Found) -> lab.Verdict:
    rows = found.results
    return _share(rows["first_order"] <= 2 * rows["bound"], 0.9, "")


def _estimated(found: Found) -> lab.Verdict:
    ratio = found.results["first_order"] / found.results["estimate"]
    most = f"; at most {lab.short(ratio.max())} times" if len(ratio) else ""
    return _share(ratio <= 1, 0.8, most)


def _factor(arm: str, over: Callable[[lab.Frame], Any], least: float, most: float) -> Judge:
    """Judge a ratio of two numbers of iterations, its geometric mean over the seeds."""

    def judge(found: Found) -> lab.Verdict:
        rows = lab.pick(found.training, arm=arm)
        if rows.empty:
            return lab.NOT_RUN
        ratio = lab.of_losses(over(rows.pivot(index="seed", columns="update")))
        ends = f"{lab.short(ratio.low)} to {lab.short(ratio.high)}"
        return lab.Verdict(ratio.within(least, most), f"{lab.short(ratio.mid)} times ({ends})")

    return judge


def _grown(rows: lab.Frame) -> Any:
    first, *_, last = rows["cold"].columns
    return rows["cold"][last] / rows["cold"][first]


def _at_the_end(name: str) -> Callable[[lab.Frame], Any]:
    return lambda rows: (rows[name] / rows["cold"]).iloc[:, -1]


def claims(s: Settings) -> list[lab.Claim]:
    """List the claims."""
    few = {"RNN": 6, "GRU": 5, "CTRNN": 5}
    top = math.inf
    every = [
        lab.Claim(
            "Where it reports convergence, the error in float32 is at most 4 times that of a scan",
            "ours",
            _exact_where_converged,
        ),
        lab.Claim("error_bound, with a factor of 2, is at least the error", "ours", _bounded),
        lab.Claim("error_estimate is at least the error in 8 of 10 nets", "ours", _estimated),
    ]
    own = [
        claim
        for arm in s.cells
        for claim in (
            lab.Claim(
                f"{arm}, gain {TAME}: most nets need at most {few[arm]} iterations at every length",
                DEER,
                _flat(arm, few[arm]),
            ),
            lab.Claim(
                f"{arm}: most nets with a negative exponent need fewer than {MOST} iterations",
                GONZALEZ,
                _solved_where_stable(arm),
            ),
            lab.Claim(
                f"{arm}: most nets with a positive one do not count as converged",
                "ours",
                _refused_where_chaotic(arm),
            ),
            lab.Claim(
                f"{arm}: the exponent orders nets as the iterations do (0.8 or more)",
                GONZALEZ,
                _ordered(arm),
            ),
            lab.Claim(
                f"{arm}: training at least doubles the iterations",
                "ours",
                _factor(arm, _grown, 2, top),
            ),
            lab.Claim(
                f"{arm}: carries of the last update as guess at least halve them",
                "ours",
                _factor(arm, _at_the_end("warm"), 0, 0.5),
            ),
            lab.Claim(
                f"{arm}: carries of other sequences do not (0.8 times or more)",
                "ours",
                _factor(arm, _at_the_end("fresh"), 0.8, top),
            ),
        )
    ]
    return [*every, *own]
