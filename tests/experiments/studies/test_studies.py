"""Every study: its verdicts can turn, its runs differ, its report is made of rows alone."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import studies
from experiments.__main__ import main
from experiments.lab import NOT_RUN, BadInput, Verdict, read_about, read_results, restore
from experiments.lab.study import word
from tests.support.studies import ALL, JUDGED, TRAINED, emptied, tables, worlds

over_all = pytest.mark.parametrize("study", JUDGED.values(), ids=list(JUDGED))
LONG = {"guide", "initialisation", "selective_copy", "state_tracking", "trainability"}  # to judge
over_trained = pytest.mark.parametrize(
    "study",
    [
        # it searches for the sizes of twelve nets with as many parameters as another
        pytest.param(study, id=name, marks=[pytest.mark.slow] * (name == "state_tracking"))
        for name, study in TRAINED.items()
    ],
)


def verdicts(study, settings, rows):
    claims = study.claims(settings)
    return {claim.text: claim.judge(rows) for claim in claims}


def test_every_study_has_claims_and_a_row_on_the_page_of_studies():
    """The study of horizons measures curves: tests/experiments/studies/test_horizon.py."""
    assert set(ALL) - set(JUDGED) == {"horizon"}
    page = (Path(__file__).parents[3] / "docs" / "studies.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(ALL), "keep the table of docs/studies.md complete"


@pytest.mark.parametrize(
    ("study", "form"),
    [
        pytest.param(
            study,
            form,
            id=f"{name}-{form}",
            marks=() if form == "quick" and name not in LONG else pytest.mark.slow,
        )
        for name, study in JUDGED.items()
        for form in ("quick", "settings")
    ],
)
def test_contrary_numbers_give_the_contrary_verdict(study, form):
    settings = getattr(study, form)
    by_world = [verdicts(study, settings, rows) for rows in worlds(study, settings)]
    for text in by_world[0]:
        found = [world[text] for world in by_world]
        assert {verdict.holds for verdict in found} >= {True, False}, (
            f"{study.name}, {form}: expected rows that make this claim true and rows that make it "
            f"false: {text!r}; got {found}. Give enough seeds, at least 4 in `quick`"
        )
        assert len({verdict.result for verdict in found}) > 1
    none = verdicts(study, settings, emptied(worlds(study, settings)[0]))
    assert all(verdict == NOT_RUN for verdict in none.values())


MARKS = [*(word(Verdict(holds, "")) for holds in (True, False, None)), word(NOT_RUN)]
KEPT = Path(studies.__file__).parents[1] / "results"


@pytest.mark.parametrize("name", [path.name for path in sorted(KEPT.iterdir())])
def test_the_verdicts_of_recorded_runs_are_those_that_were_recorded(name):
    study, folder = JUDGED[name], KEPT / name
    settings = restore(study.settings, read_about(folder)["settings"])
    judged = verdicts(study, settings, study.read(folder, name))
    recorded = re.findall(
        rf"\| ({'|'.join(MARKS)}) +\|", (folder / "results.md").read_text("utf-8")
    )
    assert [word(verdict) for verdict in judged.values()] == recorded
    assert recorded


@over_trained
def test_runs_differ_and_those_of_a_group_run_alike(study):
    groups = study.groups(study.quick)
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


@over_all
def test_a_folder_without_rows_names_the_command_that_measures_some(study, tmp_path):
    with pytest.raises(BadInput, match=f"experiments run {study.name}"):
        study.report(tmp_path, Console(file=io.StringIO()))


@pytest.mark.slow
@over_all
def test_a_report_is_made_of_rows_alone(study, tmp_path):
    world = worlds(study, study.quick)[0]
    for name, table in tables(world).items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    rows = tables(world)["results"]
    console = Console(file=io.StringIO(), width=250)
    study.report(tmp_path, console)
    page = (tmp_path / "report.html").read_text("utf-8")
    text_page = (tmp_path / "results.md").read_text("utf-8")
    assert (tmp_path / f"{study.name}.png").read_bytes()[:4] == b"\x89PNG"
    named = set(rows["arm"]) if "arm" in rows else {"1.2", "1.5"}
    for text in named:
        assert text in page
        assert text in console.file.getvalue()
        assert text in text_page


@over_all
def test_a_setting_out_of_range_is_refused(study):
    for field in dataclasses.fields(study.settings):
        several = isinstance(field.default, tuple)
        for wrong in [(), (0,), ("a",)] if several else [0, -1, "a", None]:
            with pytest.raises(BadInput, match=f"{field.name}: expected"):
                dataclasses.replace(study.settings, **{field.name: wrong})


@pytest.mark.slow
def test_a_second_run_from_the_command_line_repeats_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda *_: None)
    command = ["run", "adding", "--quick", "--out", str(tmp_path), "--seeds", "2"]
    command += ["--lengths", "10", "--gru-steps", "3", "--tanh-steps", "3", "--hidden-size", "4"]
    assert main(command) == 0
    rows = pd.read_csv(tmp_path / "results.csv")
    assert len(rows) == 8
    assert np.all(rows["steps"] == 3)
    first = capfd.readouterr().out
    assert "8 runs, at most 24 steps of training" in first
    assert "not shown" in first
    assert main(command) == 0
    assert capfd.readouterr().out.count("kept") == 3
    assert read_results(tmp_path, "adding").equals(rows)
