"""The best configuration of a sweep, and others that may be as good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from experiments import lab
from seqcells import sweep

SEED = "seed"  # the field whose values are repetitions
Ranked = dict[str, Any]  # a configuration: a row of `sweep.Result.ranked`, with its `values`


def varied(result: sweep.Result) -> list[str]:
    """Return the fields that have more than one value, except the seed."""
    return [n for n in result.fields if n != SEED and len({str(r[n]) for r in result.rows}) > 1]


def logarithmic(result: sweep.Result) -> bool:
    """Whether means and intervals are of logarithms: if all finite values are above 0."""
    values = [row[result.metric] for row in result.rows if row["status"] != "unfinished"]
    return all(value > 0 for value in values if math.isfinite(value))


def rank(result: sweep.Result) -> list[Ranked]:
    """Rank as `Result.ranked` does, but by geometric means if all values are positive.

    A row has `values`, those of the finite seeds, and its `mean`, `low` and `high` are those of
    `experiments.lab.of_losses`, so that no interval of a loss reaches below 0.
    """
    ranked = result.ranked()
    if not logarithmic(result):
        return [{**row, "values": _values(result, row)} for row in ranked]
    for row in ranked:
        row["values"] = _values(result, row)
        if row["values"]:
            low, row["mean"], high = lab.of_losses(row["values"])
            ends = (low, high) if row["n"] > 1 else (math.nan, math.nan)
            row["low"], row["high"] = ends
    sign = 1 if result.mode == "min" else -1
    ranked.sort(
        key=lambda r: (r["diverged"] > 0, math.isnan(r["mean"]), -r["steps"], sign * r["mean"])
    )
    return [{**row, "rank": i} for i, row in enumerate(ranked, 1)]


def _values(result: sweep.Result, ranked: Ranked) -> list[float]:
    names = [name for name in result.fields if name in ranked]
    return [
        row[result.metric]
        for row in result.rows
        if row["status"] in ("done", "pruned") and all(row[n] == ranked[n] for n in names)
    ]


def rivals(result: sweep.Result, ranked: Sequence[Ranked]) -> list[Ranked]:
    """Return those that may be as good as the best: the interval of the difference contains 0.

    The interval is Welch's, of logarithms if all values are positive. Configurations with a
    diverged seed, with another number of steps or with one seed are not compared.
    """
    best = ranked[0]
    as_numbers = np.log if logarithmic(result) else np.asarray
    return [
        row
        for row in ranked[1:]
        if row["diverged"] == 0
        and row["steps"] == best["steps"]
        and min(row["n"], best["n"]) > 1
        and _alike(as_numbers(best["values"]), as_numbers(row["values"]))
    ]


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether Welch's 95 % interval of the difference of two means contains 0."""
    parts = [np.var(some, ddof=1) / len(some) for some in (one, other)]
    gap, error = abs(np.mean(one) - np.mean(other)), math.sqrt(sum(parts))
    if error == 0:
        return gap == 0
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(some) - 1) for part, some in zip(parts, (one, other), strict=True)
    )
    return bool(gap <= error * special.stdtrit(freedom, 0.975))
