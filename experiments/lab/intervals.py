"""95 % intervals: of a share, of the difference of two shares, and of a loss over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import special

Z = NormalDist().inv_cdf(0.975)  # normal quantile of a two-sided 95 % interval


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    low: float
    mid: float
    high: float

    def within(self, low: float, high: float) -> bool | None:
        """Whether the interval lies between two numbers: False if outside, None if partly."""
        if low <= self.low and self.high <= high:
            return True
        return False if self.high < low or high < self.low else None


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return the interval of a share, k of n (Wilson 1927)."""
    centre, share = (k + Z**2 / 2) / (n + Z**2), k / n
    half = Z / (n + Z**2) * math.sqrt(n * share * (1 - share) + Z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def difference(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """Return the interval of the difference of two shares (k, n) (Newcombe 1998, method 10)."""
    (low, high), (other_low, other_high) = wilson(*one), wilson(*other)
    a, b = one[0] / one[1], other[0] / other[1]
    return (
        a - b - math.hypot(a - low, other_high - b),
        a - b + math.hypot(high - a, b - other_low),
    )


def of_losses(losses: Sequence[float]) -> Interval:
    """Return the geometric mean of positive numbers, with Student's interval of their logarithms.

    A number that is not finite comes from a diverged run: it counts as infinite, and the estimate
    is then the median. With a single number the interval is unknown, and covers everything.
    """
    values = np.asarray(losses, float)
    diverged = ~np.isfinite(values)
    if diverged.any():
        least = float(np.min(values, where=~diverged, initial=math.inf))
        return Interval(least, float(np.median(np.where(diverged, math.inf, values))), math.inf)
    logs = np.log(np.maximum(values, np.finfo(float).tiny))
    mid, half = float(np.mean(logs)), math.inf
    if len(logs) > 1:
        quantile = float(special.stdtrit(len(logs) - 1, 0.975))
        half = quantile * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    return Interval(*(float(np.exp(min(end, 709.0))) for end in (mid - half, mid, mid + half)))
