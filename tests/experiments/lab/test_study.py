"""A study's tables and sentences."""

import math

import pandas as pd

from experiments.lab import Claim, Verdict
from experiments.lab.study import settings_table, summary, verdict_table
from tests.support.studies import some


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
    held, not_run = Verdict(True, "3 %"), Verdict(None, "not run")
    alike = verdict_table([(one, held), (one, not_run)])
    assert alike.rows == [["it grows", "holds", "3 %"], ["it grows", "not measured", "not run"]]
    assert alike.caption.startswith("Source: A. ")
    both = verdict_table([(one, held), (other, held)])
    assert [row[1] for row in both.rows] == ["A", "B"]
    assert "Source" not in both.caption
    assert {table.texts == len(table.head) for table in (alike, both)} == {True}


def test_claims_that_hold_are_counted_among_those_that_were_judged():
    held, failed, not_run = (Verdict(holds, "") for holds in (True, False, None))
    assert summary([held, failed, held]) == "2 of 3 claims hold."
    assert summary([held, not_run]) == "1 of 1 claim holds; 1 not measured."
    assert summary([not_run]) == "No claim was measured."
