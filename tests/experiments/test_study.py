"""Studies made of trials: what is counted, what is judged, and that a verdict can be the other."""

import dataclasses
import functools
import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import seqcells as sc
from experiments import studies
from experiments.__main__ import main
from experiments.lab import (
    BadInput,
    Claim,
    Study,
    Verdict,
    ahead,
    as_large,
    at_best,
    best,
    count,
    found,
    load,
    loss_between,
    not_behind,
    parameters,
    share_at_least,
    share_at_most,
)
from experiments.lab.study import read_results, settings_table, summary, verdict_table
from experiments.studies import guide, mean_field, selective_copy, trainability

ALL = {name: load(name, studies, Study)[1] for name in found(studies)}
JUDGED = {name: one for name, one in ALL.items() if one.claims(one.quick)}
TRAINED = {name: one for name, one in JUDGED.items() if one is not mean_field.STUDY}
over_all = pytest.mark.parametrize("study", JUDGED.values(), ids=list(JUDGED))
over_trained = pytest.mark.parametrize("study", TRAINED.values(), ids=list(TRAINED))


@functools.cache
def run_rows(study, settings):
    """A row for every run, with what is known of it before it is made."""
    return pd.DataFrame(
        {
            **run.labels,
            "learning_rate": run.hparams["learning_rate"],
            "seed": run.seed,
            "steps": group.steps,
            "loss": group.task.probe.baseline,
        }
        for group in study.groups(settings)
        for run in group.runs
    )


def trial_rows(study, settings, good=lambda labels: True):
    """The rows of a run in which all seeds did the same: well, and in no time, or not at all."""
    rows = run_rows(study, settings)
    solved = np.array([bool(good(labels)) for labels in rows.to_dict("records")])
    return rows.assign(
        solved_at=np.where(solved, 50.0, math.nan),
        solved=solved,
        loss=np.where(solved, 0.0, rows["loss"]),
        accuracy=1.0 * solved,
        exact=1.0 * solved,
        seconds_per_step=np.where(solved, 0.001, 0.1),
    )


def field_rows(off):
    """The rows of nets that are so far from the theory."""
    row = {"weight_std": 1.2, "input_variance": 0.1, "width": 512, "nets": 8}
    for name, value in (("q", 0.5), ("chi", 0.9)):
        row |= {name: value * off, f"{name}_error": 0.01, f"{name}_theory": value}
    return pd.DataFrame([row, {**row, "weight_std": 1.5}])


def worlds(study, settings):
    """Rows of runs that came out in contrary ways."""
    if study is mean_field.STUDY:
        return [field_rows(1.02), field_rows(0.96)]
    names = sorted(set(run_rows(study, settings)["arm"]))
    alone = [lambda labels, name=name: labels["arm"] == name for name in names]
    kinds = [lambda labels, kind=kind: labels["arm"].startswith(kind) for kind in ("GRU", "tanh")]
    goods = [lambda _: True, lambda _: False, *kinds, *alone]
    if study is trainability.STUDY:
        goods += [
            lambda labels: 0.9 < labels["value"] < 1.5,
            lambda labels: labels["length"] <= labels["value"],
        ]
    made = [trial_rows(study, settings, good) for good in goods]
    if study is guide.STUDY:  # and one where a GRU is small, and one where it is large
        for sizes in ((5, 50), (50, 5)):
            size = made[0]["arm"].map(lambda arm, sizes=sizes: sizes["GRU" not in arm])
            made.append(made[0].assign(parameters=size))
    return made


def verdicts(study, settings, rows):
    claims = study.claims(settings)
    return {claim.text: claim.judge(rows) for claim in claims}


@over_all
@pytest.mark.parametrize("form", ["quick", pytest.param("settings", marks=pytest.mark.slow)])
def test_contrary_numbers_give_the_contrary_verdict(study, form):
    settings = getattr(study, form)
    found = [verdicts(study, settings, rows) for rows in worlds(study, settings)]
    for text in found[0]:
        assert {world[text].holds for world in found} == {True, False}, text
        assert len({world[text].result for world in found}) > 1
    none = verdicts(study, settings, worlds(study, settings)[0].iloc[:0])
    assert all(verdict == (None, "not run") for verdict in none.values())


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
def test_of_too_few_seeds_nothing_is_said(seeds, holds):
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
    found = at_best(rows).groupby("length")["learning_rate"].unique()
    assert {n: list(rates) for n, rates in found.items()} == {5: [0.1], 9: [0.3]}


def test_who_solved_it_too_late_did_not():
    rows = some([10.0, 60.0])
    assert share_at_least(1.0, 60)(rows).holds
    assert not share_at_least(1.0, 59)(rows).holds
    assert share_at_most(0.5, 59)(rows).holds


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


def test_a_source_that_all_claims_share_is_told_once():
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


def test_a_study_is_called_as_its_file_is():
    assert len(ALL) > 9
    assert {name: one.name for name, one in ALL.items()} == {name: name for name in ALL}


@over_all
def test_a_folder_without_rows_is_told_how_to_get_some(study, tmp_path):
    with pytest.raises(BadInput, match=f"experiments run {study.name}"):
        study.report(tmp_path, Console(file=io.StringIO()))


@pytest.mark.slow
@over_all
def test_a_report_is_made_of_rows_alone(study, tmp_path):
    rows = worlds(study, study.quick)[0]
    rows.to_csv(tmp_path / "results.csv", index=False)
    console = Console(file=io.StringIO(), width=250)
    study.report(tmp_path, console)
    page = (tmp_path / "report.html").read_text()
    text_page = (tmp_path / "results.md").read_text()
    assert (tmp_path / f"{study.name}.png").read_bytes()[:4] == b"\x89PNG"
    named = set(rows["arm"]) if "arm" in rows else {"1.2", "1.5"}
    for text in named:
        assert text in page
        assert text in console.file.getvalue()
        assert text in text_page


def recalled(solved_at):
    """Rows of recall, {(arm, length): steps by which each seed had solved it}."""
    rows = [
        some(at, task="recall", arm=arm, length=length, width=4, parameters=9)
        for (arm, length), at in solved_at.items()
    ]
    return pd.concat(rows, ignore_index=True)


def test_the_guide_tells_of_what_is_not_run_yet(tmp_path):
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


@pytest.mark.parametrize("make", [sc.RNN, sc.MinGRU, selective_copy.ARMS["minGRU, 3 layers"]])
def test_a_net_as_large_as_a_gru_has_as_many_parameters(make):
    for size in (8, 64):
        wanted = parameters(sc.GRU(size), 17)
        assert wanted == 3 * (size * size + 17 * size + 2 * size)
        units = as_large(make, 17, wanted)
        off = [abs(parameters(make(n), 17) - wanted) for n in (units - 1, units, units + 1)]
        assert off[1] == min(off)


@over_all
def test_a_setting_out_of_range_is_told(study):
    for field in dataclasses.fields(study.settings):
        several = isinstance(field.default, tuple)
        for wrong in [(), (0,), ("a",)] if several else [0, -1, "a", None]:
            with pytest.raises(BadInput, match=f"{field.name}: expected"):
                dataclasses.replace(study.settings, **{field.name: wrong})


@pytest.mark.slow
def test_a_second_run_from_the_command_line_repeats_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda: None)
    command = ["run", "adding", "--quick", "--out", str(tmp_path), "--seeds", "2"]
    command += ["--lengths", "10", "--gru-steps", "3", "--tanh-steps", "3", "--hidden-size", "4"]
    assert main(command) == 0
    rows = pd.read_csv(tmp_path / "results.csv")
    assert len(rows) == 8
    assert np.all(rows["steps"] == 3)
    first = capfd.readouterr().out
    assert "8 runs, at most 24 steps of training" in first
    assert "does not hold" in first
    assert main(command) == 0
    assert capfd.readouterr().out.count("kept") == 3
    assert read_results(tmp_path, "adding").equals(rows)
