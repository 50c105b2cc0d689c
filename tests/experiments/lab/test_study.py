"""A study's tables and sentences."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from experiments.lab import NOT_RUN, BadInput, Claim, Verdict
from experiments.lab.study import settings_table, summary, verdict_table, word
from tests.support.studies import ALL, some


def test_a_table_has_a_line_for_every_place():
    table = settings_table(pd.concat([some([10.0, math.nan, 20.0], arm="a"), some([5.0], arm="b")]))
    assert table.head == [
        "cell",
        "rate",
        "solved",
        "interval",
        "median steps",
        "steps allowed",
        "loss",
        "ms per step",
    ]
    assert [row[:3] + row[4:] for row in table.rows] == [
        ["a", "0.1", "2 of 3", "20", "100", "0.5", "2"],
        ["b", "0.1", "1 of 1", "5", "100", "0.5", "2"],
    ]


def test_a_source_that_all_claims_share_is_named_once():
    one, other = (Claim("it grows", source, lambda rows: None) for source in ("A", "B"))
    held, not_run = Verdict(True, "3 %"), NOT_RUN
    alike = verdict_table([(one, held), (one, not_run)])
    assert alike.rows == [["it grows", "holds", "3 %"], ["it grows", "not measured", "not run"]]
    assert alike.caption.startswith("Source: A. ")
    both = verdict_table([(one, held), (other, held)])
    assert [row[1] for row in both.rows] == ["A", "B"]
    assert "Source" not in both.caption
    assert {table.texts == len(table.head) for table in (alike, both)} == {True}


def test_claims_that_hold_are_counted_among_those_that_were_judged():
    held, failed, open_ = (Verdict(holds, "") for holds in (True, False, None))
    assert summary([held, failed, held]) == "2 of 3 claims hold; 1 refuted."
    assert summary([held, NOT_RUN]) == "1 of 1 claim holds; 1 not measured."
    assert summary([open_, held, failed, open_]) == "1 of 4 claims holds; 1 refuted; 2 not shown."
    assert summary([NOT_RUN]) == "No claim was measured."
    assert [word(one) for one in (held, failed, open_)] == ["holds", "refuted", "not shown"]


def test_the_rule_of_verdicts_stands_above_them():
    assert "refuted if it lies on the other side" in verdict_table([]).caption


def test_seeds_that_diverged_are_counted_and_not_left_out():
    rows = some([math.nan] * 20, arm="a").assign(loss=[math.nan] * 17 + [0.1, 1e32, math.inf])
    (row,) = settings_table(rows).rows
    assert row[-2] == "19 diverged"
    assert settings_table(rows.assign(loss=[0.1, 0.4] * 10)).rows[0][-2] == "0.2"


def test_a_table_that_lacks_a_column_is_named(tmp_path):
    some([10.0], task="t", arm="a", length=5).drop(columns="loss").to_csv(tmp_path / "results.csv")
    with pytest.raises(BadInput, match=r"results.csv: expected a column 'loss'.*run adding$"):
        ALL["adding"].report(tmp_path, Console(file=io.StringIO()))


def test_a_quick_run_says_above_all_that_it_is_one(tmp_path):
    rows = some([10.0], task="t", arm="a", length=5)
    for quick in (True, False):
        page = ALL["chrono"]._page(rows, [], tmp_path, {"quick": quick, "unfinished": ["b"]})
        assert page.alarm.startswith("The quick form: few seeds") is quick
        assert page.alarm.endswith("Not finished: b. The same command continues.")
        title, alarm, picture, caption, *_ = page.markdown.split("\n\n")
        assert (alarm, caption) == (f"**{page.alarm}**", ALL["chrono"].caption)
        assert title.startswith("# ")
        assert picture.startswith("![")
