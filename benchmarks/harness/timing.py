"""Interleaved timing: in every round each contestant runs once, so a busy spell hits them all."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

Call = Callable[[], Any]  # runs a contestant once and returns when its result is there
Times = dict[str, list[float]]  # seconds of one call, a number a round

ROUNDS = 5  # at least
FLOOR = 0.02  # seconds that a contestant runs in a round, at least


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Return the median and the quartiles."""
    low, median, high = np.percentile(list(values), [25, 50, 75])
    return Spread(float(median), float(low), float(high))


def ratio(times: Mapping[str, Sequence[float]], of: str, to: str) -> Spread:
    """Return how many times longer `of` takes than `to`, round by round.

    What slows a whole round cancels out, which in the ratio of two medians it would not.
    """
    return spread(a / b for a, b in zip(times[of], times[to], strict=True))


def fastest(times: Mapping[str, Sequence[float]], names: Iterable[str]) -> str | None:
    """Return the one with the least median, or None where there is none.

    The least of each round would flatter whoever had luck in it.
    """
    medians = {name: spread(times[name]).median for name in names if name in times}
    return min(medians, key=lambda name: medians[name]) if medians else None


def time_columns(times: Times, name: str, ours: str) -> dict[str, float]:
    """Return the columns of time of one contestant, empty where it was not timed."""
    nothing = Spread(math.nan, math.nan, math.nan)
    ms = spread(1e3 * t for t in times[name]) if name in times else nothing
    over = ratio(times, name, ours) if name in times and ours in times else nothing
    return {
        **{"ms": ms.median, "ms_low": ms.low, "ms_high": ms.high},
        **{"ratio": over.median, "ratio_low": over.low, "ratio_high": over.high},
        "rounds": len(times.get(name, [])),
    }


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the exponent k of y ~ x**k, fitted on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def interleave(
    calls: Mapping[str, Call],
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Time all calls in rounds, in an order that turns by one from round to round.

    Args:
        calls: what to time, by name; each is called twice before, once to warm it up.
        seconds: for how long; there are at least `ROUNDS` rounds.
        clock: returns seconds.

    Returns:
        Seconds of one call, a number a round.
    """
    repeats = {name: _repeats(call, clock) for name, call in calls.items()}
    times: Times = {name: [] for name in calls}
    names, done = list(calls), 0
    with _no_collection():
        end = clock() + seconds
        while done < ROUNDS or clock() < end:
            first = done % len(names)
            for name in names[first:] + names[:first]:
                times[name].append(_time(calls[name], repeats[name], clock))
            done += 1
    return times


def _repeats(call: Call, clock: Callable[[], float]) -> int:
    """How many calls fill the floor."""
    call()
    return max(1, math.ceil(FLOOR / max(_time(call, 1, clock), 1e-7)))


def _time(call: Call, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the timings."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
