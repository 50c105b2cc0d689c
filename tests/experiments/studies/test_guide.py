"""The guide: what it counts, and what it recommends."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.lab import best
from experiments.studies import guide
from tests.support.studies import recalled, trial_rows


def test_the_guide_reports_what_is_not_run_yet(tmp_path):
    rows = trial_rows(guide.STUDY, guide.STUDY.quick)
    last = (rows["task"] == "adding") & (rows["length"] == 40) & rows["arm"].str.contains("GRU")
    rows[~last].to_csv(tmp_path / "results.csv", index=False)
    guide.STUDY.report(tmp_path, Console(file=io.StringIO()))
    assert np.isnan(guide.seconds(rows[~last], "adding", "GRU default", 40))
    lines = {(row[0], row[3]): row for row in guide.choice(rows[~last]).rows}
    assert lines["adding", "40"][4:] == ["0.05 s", "0.05 s", "-", "-"]


def test_what_to_use_is_the_soonest_or_the_smallest_that_solves_it():
    rows = recalled({("a", 5): [9.0], ("b", 5): [2.0], ("c", 5): [math.nan]})
    sizes = {"a": 10, "b": 20, "c": 5}
    (line,) = guide.choice(rows.assign(parameters=rows["arm"].map(sizes))).rows
    assert line[:4] == ["recall", "b", "a", "5"]
    (line,) = guide.choice(recalled({("a", 5): [math.nan]})).rows
    assert line[:4] == ["recall", guide.NONE, guide.NONE, "5"]


def test_the_guide_says_first_who_is_soonest():
    at = {
        ("a", 5): [9.0],
        ("b", 5): [1.0],
        ("a", 10): [9.0],
        ("b", 10): [1.0],
        ("b", 20): [math.nan],
    }
    assert guide.answers(recalled(at)) == [
        f"Soonest to solve recall: b over 5 and 10 steps; {guide.NONE} over 20 steps."
    ]


def test_a_memory_reaches_to_where_most_seeds_first_fail():
    nan = math.nan
    rows = recalled({("a", 5): [1.0, 1.0, nan], ("a", 10): [1.0, nan, nan], ("a", 20): [1.0] * 3})
    assert guide.reach(rows, "recall", "a") == 5
    assert guide.reach(recalled({("a", 5): [nan, nan, 1.0]}), "recall", "a") == 0


def test_a_cell_stands_with_the_rate_that_solves_most_and_soonest():
    slow, fast, luck = (
        recalled({("a", 5): at}).assign(learning_rate=rate)
        for rate, at in ((0.1, [90.0, 90.0]), (0.2, [50.0, 50.0]), (0.3, [10.0, math.nan]))
    )
    rows = pd.concat([slow, fast, luck], ignore_index=True)
    assert set(best(rows)["learning_rate"]) == {0.2}
    assert guide.seconds(rows, "recall", "a", 5) == pytest.approx(50 * 0.002)
