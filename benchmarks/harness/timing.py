"""Interleaved timing: each round runs every contestant once, so background load slows them all."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.tables import Row

Call = Callable[[], Any]  # runs a contestant once and returns when its result is ready
Times = dict[str, list[float]]  # {contestant: seconds per call, one number for each round}

ROUNDS = 5  # minimal number of rounds
FLOOR = 0.02  # minimal seconds per contestant and round
COLUMNS = ["ms", "ms_low", "ms_high", "ratio", "ratio_low", "ratio_high", "rounds"]


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Return the median and the quartiles; NaN if there are no values."""
    values = list(values)
    low, median, high = np.percentile(values, [25, 50, 75]) if values else [math.nan] * 3
    return Spread(float(median), float(low), float(high))


def ratio(times: Mapping[str, Sequence[float]], of: str, to: str) -> Spread:
    """Return the ratio of the times of `of` and `to`, round by round; NaN if one is not timed.

    Load that slows a whole round cancels out; in the ratio of two medians it would not.
    """
    if of not in times or to not in times:
        return spread([])
    return spread(a / b for a, b in zip(times[of], times[to], strict=True))


def fastest(times: Mapping[str, Sequence[float]], names: Iterable[str]) -> str | None:
    """Return the contestant with the smallest median, or None if none is timed.

    The minimum of each round would favour contestants that were lucky in it.
    """
    medians = {name: spread(times[name]).median for name in names if name in times}
    return min(medians, key=lambda name: medians[name]) if medians else None


def time_columns(times: Times, name: str, base: str) -> Row:
    """Return `COLUMNS` of a contestant: its time, and the ratio of its time to that of `base`."""
    ms, rounds = [1e3 * t for t in times.get(name, [])], len(times.get(name, []))
    values = *spread(ms), *ratio(times, name, base), rounds
    return dict(zip(COLUMNS, values, strict=True))


def contestant_rows(times: Times, base: str, group: Row) -> list[Row]:
    """Return a row for each contestant: the columns of its group, its name and its times."""
    return [group | {"contestant": name} | time_columns(times, name, base) for name in times]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the exponent k of y ~ x**k, fitted on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def interleave(
    calls: Mapping[str, Call],
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Time all calls in rounds, in an order that rotates by one from round to round.

    Args:
        calls: the calls to time, by name; each is called twice before, once to warm up.
        seconds: the minimal duration; there are always at least `ROUNDS` rounds.
        clock: returns seconds.

    Returns:
        For each contestant the seconds per call, one number for each round.
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


def in_rounds(
    ways: Mapping[str, Callable[[], float]], count: int, report: Callable[[str], object]
) -> Times:
    """Measure ways that take long, each once a round; every one returns its seconds."""
    times: Times = {name: [] for name in ways}
    for number in range(count):
        for name, way in ways.items():
            report(f"round {number + 1}: {name}")
            times[name].append(way())
    return times


def _repeats(call: Call, clock: Callable[[], float]) -> int:
    """Return the number of calls that take at least `FLOOR` seconds."""
    call()
    return max(1, math.ceil(FLOOR / max(_time(call, 1, clock), 1e-7)))


def _time(call: Call, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


@contextmanager
def _no_collection() -> Iterator[None]:
    """Turn off Python's garbage collector while timing."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
