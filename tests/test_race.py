"""Studies made of trials: what is counted, what is judged, and that a verdict can be the other."""

import dataclasses
import importlib
import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import _race
from experiments.__main__ import STUDIES, main
from experiments._check import BadInput
from experiments._race import count, place_table, share_at_least, share_at_most

MODULES = {name: importlib.import_module(f"experiments.{name}") for name in STUDIES}
RACES = {name: module for name, module in MODULES.items() if hasattr(module, "STUDY")}
over_races = pytest.mark.parametrize("module", RACES.values(), ids=list(RACES))


def rows_of(module, settings, solved, loss):
    """The rows of a run in which all seeds did the same."""
    found = {"solved": solved, "loss": loss, "accuracy": float(solved), "exact": float(solved)}
    return pd.DataFrame(
        [
            {
                **run.labels,
                "learning_rate": run.hparams["learning_rate"],
                "seed": run.seed,
                "steps": group.steps,
                "solved_at": 50.0 if solved else math.nan,
                **found,
                "seconds_per_step": 0.001,
            }
            for group in module.STUDY.groups(settings)
            for run in group.runs
        ]
    )


def verdicts(module, settings, rows):
    claims = module.STUDY.claims(dataclasses.asdict(settings))
    return {claim.text: claim.judge(rows) for claim in claims}


@over_races
@pytest.mark.parametrize("form", ["QUICK", "Settings"])
def test_contrary_numbers_give_the_contrary_verdict(module, form):
    settings = module.QUICK if form == "QUICK" else module.Settings()
    baseline = module.STUDY.groups(settings)[0].task.probe.baseline
    good, bad = (
        verdicts(module, settings, rows_of(module, settings, *found))
        for found in ((True, 0.0), (False, baseline))
    )
    assert good
    for text in good:
        assert {good[text].holds, bad[text].holds} == {True, False}, text
        assert good[text].found != bad[text].found
    none = verdicts(module, settings, rows_of(module, settings, True, 0.0).iloc[:0])
    assert all(verdict == (None, "not run") for verdict in none.values())


@over_races
def test_runs_differ_and_those_of_a_group_run_alike(module):
    groups = module.STUDY.groups(module.QUICK)
    assert len({group.name for group in groups}) == len(groups)
    labels = [tuple(group.runs[0].labels) for group in groups]
    assert len(set(labels)) == 1
    assert "arm" in labels[0]
    places = [
        (*run.labels.values(), run.hparams["learning_rate"], run.seed)
        for group in groups
        for run in group.runs
    ]
    assert len(set(places)) == len(places)


def some(solved_at, steps=100, **labels):
    return pd.DataFrame(
        {
            **{name: [value] * len(solved_at) for name, value in labels.items()},
            **{"learning_rate": 0.1, "seed": range(len(solved_at)), "steps": steps},
            "solved_at": solved_at,
            "solved": [not math.isnan(at) for at in solved_at],
            **{"loss": 0.5, "accuracy": 0.5, "exact": 0.5, "seconds_per_step": 0.002},
        }
    )


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
    found = count(some(solved_at))
    assert (found.k, found.n, found.median) == (k, len(solved_at), median)
    assert found.when == ("more than 100" if math.isinf(median) else str(int(median)))


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


def test_who_solved_it_too_late_did_not():
    rows = some([10.0, 60.0])
    assert share_at_least(1.0, 60)(rows).holds
    assert not share_at_least(1.0, 59)(rows).holds
    assert share_at_most(0.5, 59)(rows).holds


def test_a_table_has_a_line_for_every_place():
    table = place_table(pd.concat([some([10.0, math.nan, 20.0], arm="a"), some([5.0], arm="b")]))
    assert table.head == [
        *("arm", "rate", "solved", "interval", "median steps", "of", "loss", "ms")
    ]
    assert [row[:3] + row[4:] for row in table.rows] == [
        ["a", "0.1", "2 of 3", "20", "100", "0.5", "2"],
        ["b", "0.1", "1 of 1", "5", "100", "0.5", "2"],
    ]


@over_races
def test_a_folder_without_rows_is_told_how_to_get_some(module, tmp_path):
    with pytest.raises(BadInput, match=f"experiments run {module.STUDY.name}"):
        module.report(tmp_path, Console(file=io.StringIO()))


@over_races
def test_a_report_is_made_of_rows_alone(module, tmp_path):
    rows = rows_of(module, module.QUICK, True, 0.001)
    rows.to_csv(tmp_path / "results.csv", index=False)
    console = Console(file=io.StringIO(), width=200)
    module.report(tmp_path, console)
    page = (tmp_path / "report.html").read_text()
    assert (tmp_path / f"{module.STUDY.name}.png").read_bytes()[:4] == b"\x89PNG"
    for arm in set(rows["arm"]):
        assert arm in page
        assert arm in console.file.getvalue()


def test_a_study_runs_from_the_command_line_and_does_not_repeat_itself(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda: None)
    command = ["run", "pascanu", "--quick", "--out", str(tmp_path)]
    command += ["--seeds", "1", "--lengths", "10", "--steps", "3", "--hidden-size", "4"]
    assert main(command) == 0
    rows = pd.read_csv(tmp_path / "results.csv")
    assert len(rows) == 6
    assert np.all(rows["steps"] == 3)
    first = capfd.readouterr().out
    assert "6 runs, at most 18 steps of training" in first
    assert "does not hold" in first
    assert main(command) == 0
    assert capfd.readouterr().out.count("kept") == 3
    assert _race.read(tmp_path, "pascanu").equals(rows)
