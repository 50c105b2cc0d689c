"""Claims: what is counted, what is judged, and that a verdict can be the other."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments.lab import (
    NOT_RUN,
    ahead,
    at_best,
    count,
    difference,
    loss_between,
    not_behind,
    of_losses,
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


@pytest.mark.parametrize(
    ("k", "n", "at_least", "at_most"),
    [
        (20, 20, True, False),  # Wilson's interval: 0.84 to 1
        (15, 20, True, False),  # 0.53 to 0.89
        (14, 20, None, None),  # 0.48 to 0.85
        (10, 20, None, None),
        (5, 20, False, True),
        (3, 3, None, None),  # 0.44 to 1
        (4, 4, True, False),  # 0.51 to 1
    ],
)
def test_a_share_is_judged_by_its_interval(k, n, at_least, at_most):
    rows = some([10.0] * k + [math.nan] * (n - k), arm="a")
    assert share_at_least(0.5, arm="a")(rows).holds is at_least
    assert share_at_most(0.5, arm="a")(rows).holds is at_most
    assert share_at_least(0.5, arm="c")(rows) == NOT_RUN


@pytest.mark.parametrize(
    ("ks", "holds"),
    [((20, 20), True), ((20, 10), None), ((20, 0), False), ((10, 0), False), ((10, 10), None)],
)
def test_a_share_is_judged_at_every_place_by_itself(ks, holds):
    parts = [some([10.0] * k + [math.nan] * (20 - k), arm=str(i)) for i, k in enumerate(ks)]
    assert share_at_least(0.5)(pd.concat(parts)).holds is holds


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
        (raced(a_5=11, b_5=9), None, None),  # as chance has it
        (raced(a_5=20, b_5=20), None, None),
        (raced(a_5=15, b_5=7), True, True),  # intervals overlap, that of the difference does not
        (raced(a_5=20, b_5=0, a_9=8, b_9=10), True, None),
        (raced(a_5=20, b_5=0, a_9=0, b_9=20), False, False),  # somewhere more, somewhere less
    ],
)
def test_one_is_ahead_where_the_interval_of_the_difference_is_above_0(
    rows, is_ahead, is_not_behind
):
    assert ahead("a", "b")(rows).holds is is_ahead
    assert not_behind("a", "b")(rows).holds is is_not_behind


def test_the_interval_of_a_difference_is_that_of_newcombe():
    """The table of Newcombe (1998), method 10, has these to four digits."""
    for one, other, low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ):
        assert difference(one, other) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_a_loss_is_of_its_logarithm_and_counts_what_diverged():
    values = [0.1, 0.2, 0.4]
    logs = np.log(values)
    half = 4.302652729911275 * logs.std(ddof=1) / 3**0.5  # Student's, 2 degrees of freedom
    ends = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    assert of_losses(values) == pytest.approx(tuple(ends))
    assert of_losses([0.1, 0.2, math.nan]) == (0.1, 0.2, math.inf)
    assert of_losses([0.1, math.inf, math.nan]) == (0.1, math.inf, math.inf)
    assert of_losses([0.3]) == pytest.approx((0, 0.3, math.exp(709)))
    assert of_losses([0.0, 0.0]).within(0, 1) is True


def test_one_is_compared_at_its_best_rate_and_where_both_were_run():
    rows = raced(a_5=20, b_5=0)
    worse = raced(a_5=0, b_5=0, b_9=20).assign(learning_rate=0.5)
    verdict = ahead("a", "b")(pd.concat([rows, worse], ignore_index=True))
    assert verdict.holds is True
    assert verdict.result == "t 5: 20 of 20 against 0 of 20 (difference +0.77 to +1.00)"
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


@pytest.mark.parametrize(
    ("low", "high", "holds"), [(0.15, 0.25, True), (0.0, 0.15, False), (0.2, 0.8, None)]
)
def test_a_loss_is_judged_by_its_interval_where_it_is_least(low, high, holds):
    rows = some([10.0, 20.0, 30.0], arm="a").assign(loss=[0.19, 0.2, 0.21])
    rows = pd.concat([rows, rows.assign(loss=0.7, learning_rate=0.3)])
    verdict = loss_between(low, high)(rows)
    assert verdict.holds is holds
    assert verdict.result == "mean loss 0.2 at 0.1 (0.18 to 0.23), 0.7 at 0.3 (0.7 to 0.7)"
    assert loss_between(0.0, 1.0, arm="b")(rows) == NOT_RUN


def test_seeds_that_diverged_are_not_left_out_of_a_loss():
    rows = some([math.nan] * 20).assign(loss=[math.nan] * 17 + [0.16] * 3)
    assert loss_between(0.15, 0.17)(rows).holds is None
    assert loss_between(0.0, 0.1)(rows).holds is False
    assert "mean loss inf at 0.1" in loss_between(0.15, 0.17)(rows).result


def test_rows_at_the_best_rate_are_those_of_one_rate_a_place():
    rows = raced(a_5=20, a_9=3)
    rows = pd.concat([rows, raced(a_5=7, a_9=11).assign(learning_rate=0.3)], ignore_index=True)
    rates = at_best(rows).groupby("length")["learning_rate"].unique()
    assert {n: list(kept) for n, kept in rates.items()} == {5: [0.1], 9: [0.3]}


def test_who_solved_it_too_late_did_not():
    rows = some([10.0] * 4 + [60.0] * 4)
    assert share_at_least(0.6, 60)(rows).holds
    assert share_at_least(0.6, 59)(rows).holds is None
    assert share_at_most(0.3, 9)(rows).holds is None
    assert share_at_most(0.4, 9)(rows).holds
