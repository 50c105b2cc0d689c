"""The study of state tracking: nets of equal size, and what its page says first."""

import itertools
import math

import pandas as pd
import pytest

from experiments.lab import all_hold
from experiments.studies.state_tracking import STUDY, Settings, answers, claims, groups
from tests.support.studies import some


@pytest.mark.slow
def test_all_nets_have_as_many_weights():
    for group in groups(STUDY.settings):
        assert group.runs[0].labels["parameters"] == pytest.approx(10_000, rel=0.035), group.name


def rows(solved):
    """Rows of seeds, {(arm, length): how many of 4 solve parity}."""
    parts = [
        some([9.0] * k + [math.nan] * (4 - k), task="parity", arm=arm, length=length)
        for (arm, length), k in solved.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_the_page_says_first_which_cells_keep_what_they_learn():
    found = {("RNN", 24): 4, ("RNN", 96): 3, ("MinGRU", 24): 3, ("MinGRU", 96): 0}
    assert answers(rows({**found, ("LRU", 24): 2, ("LRU", 96): 2})) == [
        "Parity, over 96 steps: most seeds of RNN solve it; over the 24 steps of training alone: "
        "MinGRU."
    ]
    assert answers(rows({("LRU", 24): 0, ("LRU", 96): 0})) == [
        "Parity, over 96 steps: most seeds of no cell solve it."
    ]


def test_a_claim_of_several_cells_is_that_of_each():
    settings = Settings(cells=("MinGRU", "Mamba"), tasks=("parity",))
    (claim,) = claims(settings)
    verdicts = {}
    for k, n in itertools.product((0, 4), (0, 2, 4)):
        verdict = claim.judge(rows({("MinGRU", 96): k, ("Mamba", 96): n}))
        verdicts[k, n] = verdict.holds
        assert verdict.result.startswith(f"MinGRU {k} of 4")
        assert f"; Mamba {n} of 4" in verdict.result
    each = {0: True, 2: None, 4: False}  # at most half
    assert verdicts == {(k, n): all_hold([each[k], each[n]]) for k, n in verdicts}
    half = claim.judge(rows({("MinGRU", 96): 0}))  # the other is not trained yet
    assert half.holds is None
    assert half.measured
