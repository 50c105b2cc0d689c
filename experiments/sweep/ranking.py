"""The best configuration of a sweep, and others that may be as good."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from seqcells import sweep

SEED = "seed"  # the field whose values are repetitions
Ranked = dict[str, Any]  # a configuration: a row of `sweep.Result.ranked`, with its `values`


def varied(result: sweep.Result) -> list[str]:
    """Return the fields that have more than one value, except the seed."""
    return [name for name in result.fields if name != SEED and _differ(list(result.column(name)))]


def _differ(values: Sequence[object]) -> bool:
    first = values[0]
    return any(v != first or type(v) is not type(first) for v in values if v is not first)


def logarithmic(result: sweep.Result) -> bool:
    """Whether means and intervals are of logarithms: if all finite values are above 0."""
    values = np.asarray(result.column(result.metric), float)
    return bool((values[np.isfinite(values)] > 0).all())


def ranks(result: sweep.Result) -> list[Ranked]:
    """Rank as `Result.ranked` does, by geometric means if all values are positive."""
    return result.ranked(mean="geometric" if logarithmic(result) else "arithmetic")


def rank(result: sweep.Result) -> list[Ranked]:
    """Rank, and add to each row its `values`, those of the finite seeds."""
    names = [name for name in result.fields if name != SEED]
    columns = [result.column(name) for name in (*names, "status", result.metric)]
    values: dict[str, list[float]] = {}
    for *at, status, value in zip(*map(list, columns), strict=True):
        if status in ("done", "pruned"):
            values.setdefault(json.dumps(at), []).append(float(value))
    return [
        {**row, "values": values.get(json.dumps([row[name] for name in names]), [])}
        for row in ranks(result)
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
