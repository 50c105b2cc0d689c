"""Claims: what is counted, what is judged, and that a verdict can be the other."""

import math

import pandas as pd
import pytest

from experiments.lab import (
    ahead,
    at_best,
    count,
    loss_between,
    not_behind,
    share_at_least,
    share_at_most,
)
from tests.support.studies import some


@pytest.mark.parametrize(
    ("solved_at", "k", "median"),
    [
        ([10.0, 30.0, 20.0], 3, 20),
        ([10.0, math.nan, 20.0], 2, 20),
        ([10.0, math.nan, math.nan], 1, math.inf),
        ([10.0, 20.0, math.nan, math.nan], 2, 20),
    ],
)
def test_who_never_solved_it_counts_as_later_than_all_others(solved_at, k, median):
    result = count(some(solved_at))
    assert (result.k, result.n, result.median) == (k, len(solved_at), median)
    assert result.when == ("more than 100" if math.isinf(median) else str(int(median)))


def test_an_average_that_passed_by_luck_is_not_solved():
    rows = some([10.0, 20.0])
    rows["solved"] = [True, False]  # on fresh samples, at the end
    assert count(rows)[:3] == (1, 2, 10)


def test_a_share_is_judged_at_every_place_by_itself():
    rows = pd.concat([some([10.0] * 20, arm="a"), some([10.0] * 18 + [math.nan] * 2, arm="b")])
    assert share_at_least(0.95, arm="a")(rows).holds
    assert not share_at_least(0.95, arm="b")(rows).holds
    assert not share_at_least(0.95)(rows).holds  # 38 of 40, but 18 of 20
    assert share_at_least(0.9)(rows).holds
    assert not share_at_most(0.05)(rows).holds
    assert share_at_most(0.95, arm="b")(rows).holds
    assert share_at_least(0.5, arm="c")(rows).holds is None


def raced(**solved):
    """Rows of 20 seeds an arm and length, so many of which solved it: arm_length=count."""
    parts = []
    for name, k in solved.items():
        arm, length = name.split("_")
        part = some([10.0] * k + [math.nan] * (20 - k), task="t", arm=arm, length=int(length))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("rows", "is_ahead", "is_not_behind"),
    [
        (raced(a_5=20, b_5=0), True, True),
        (raced(a_5=0, b_5=20), False, False),
        (raced(a_5=11, b_5=9), False, True),  # as chance has it
        (raced(a_5=20, b_5=0, a_9=8, b_9=10), True, True),
        (raced(a_5=20, b_5=0, a_9=0, b_9=20), False, False),  # somewhere more, somewhere less
    ],
)
def test_one_is_ahead_where_intervals_lie_apart(rows, is_ahead, is_not_behind):
    assert ahead("a", "b")(rows).holds is is_ahead
    assert not_behind("a", "b")(rows).holds is is_not_behind


def test_one_is_compared_at_its_best_rate_and_where_both_were_run():
    rows = raced(a_5=20, b_5=0)
    worse = raced(a_5=0, b_5=0, b_9=20).assign(learning_rate=0.5)
    verdict = ahead("a", "b")(pd.concat([rows, worse], ignore_index=True))
    assert verdict == (True, "t 5: 20 of 20 against 0 of 20")
    assert ahead("a", "c")(rows).holds is None
    assert ahead("a", "b", length=9)(rows).holds is None


@pytest.mark.parametrize(("seeds", "holds"), [(3, None), (4, True)])
def test_of_too_few_seeds_nothing_is_concluded(seeds, holds):
    rows = pd.concat(
        [
            some([10.0] * seeds, task="t", arm="a", length=5),
            some([math.nan] * seeds, task="t", arm="b", length=5),
        ],
        ignore_index=True,
    )
    assert ahead("a", "b")(rows).holds is holds
    assert ("too few" in ahead("a", "b")(rows).result) is (holds is None)


def test_a_loss_is_judged_where_it_is_least():
    rows = some([10.0, 20.0, 30.0], arm="a").assign(loss=[0.1, 0.2, 0.9])
    rows = pd.concat([rows, rows.assign(loss=0.7, learning_rate=0.3)])
    assert loss_between(0.15, 0.25)(rows) == (True, "median loss 0.2 at 0.1, 0.7 at 0.3")
    assert not loss_between(0.0, 0.15)(rows).holds
    assert not loss_between(0.3, 0.8)(rows).holds
    assert loss_between(0.0, 1.0, arm="b")(rows).holds is None


def test_rows_at_the_best_rate_are_those_of_one_rate_a_place():
    rows = raced(a_5=20, a_9=3)
    rows = pd.concat([rows, raced(a_5=7, a_9=11).assign(learning_rate=0.3)], ignore_index=True)
    rates = at_best(rows).groupby("length")["learning_rate"].unique()
    assert {n: list(kept) for n, kept in rates.items()} == {5: [0.1], 9: [0.3]}


def test_who_solved_it_too_late_did_not():
    rows = some([10.0, 60.0])
    assert share_at_least(1.0, 60)(rows).holds
    assert not share_at_least(1.0, 59)(rows).holds
    assert share_at_most(0.5, 59)(rows).holds
