"""Searches and populations from the command line, and what their reports say."""

import itertools
import json
from datetime import datetime, timedelta

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.__main__ import main
from experiments.lab import BadInput
from experiments.sweep import command, population, search_picture, searches, settings
from seqcells import sweep

optuna = pytest.importorskip("optuna")
SMALL = ["--steps", "4", "--segment", "2", "--static.hidden-size", "4", "--static.batch-size", "3"]
SEARCH = ["--search", "tpe", "--samples", "12", "--batch", "4", "--seeds", "2", *SMALL]
NAN = float("nan")


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda *_: None)


def test_a_search_asks_trains_reports_and_is_not_run_twice(tmp_path, capsys, monkeypatch):
    assert main(["sweep", "parity", *SEARCH, "--out", str(tmp_path)]) == 0
    study = searches.kept(tmp_path)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 12
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert 1e-4 <= min(rates) < max(rates) <= 1e-1
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "24 trials" in page
    assert "importance" in page
    assert "not finished" not in page
    capsys.readouterr()
    monkeypatch.setattr(sweep.Task, "__new__", None)  # creating a task would raise
    for command_ in ("resume", "status", "report"):
        assert main([command_, str(tmp_path)]) == 0
    assert "24 trials: 24 done." in " ".join(capsys.readouterr().out.split())


def test_a_search_that_was_stopped_goes_on(tmp_path, capsys):
    line = ["sweep", "parity", *SEARCH, "--sweep.lr", "uniform:0:0.1", "--out", str(tmp_path)]
    assert main([*line, "--minutes", "1e-9"]) == 0
    capsys.readouterr()
    assert main(["status", str(tmp_path)]) == 0
    assert "8 trials: 8 unfinished." in " ".join(capsys.readouterr().out.split())
    assert main(["resume", str(tmp_path)]) == 0
    assert len(searches.kept(tmp_path).trials) == 12
    assert main([*line[:3], "random", *line[4:]]) == 2
    assert "another" in capsys.readouterr().err


def test_a_population_is_trained_and_its_lineage_reported(tmp_path):
    line = ["sweep", "parity", "--pbt", "2", "--samples", "6", "--seeds", "1", *SMALL]
    assert main([*line, "--out", str(tmp_path)]) == 0
    about = json.loads((tmp_path / "sweep.json").read_text("utf-8"))["config"]["pbt"]
    assert (about["every"], list(about["perturb"])) == (2, ["learning_rate"])
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "6 of 6, the best first" in page
    assert " on the way." in page
    assert "from 0." in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"search": "tpe", "pbt": 2}, "pbt: expected a population or a search, got both"),
        ({"search": "tpe", "lr": "1e-3,1e-2"}, "search: expected a range to search, got lists of"),
        ({"pbt": 2, "lr": "1e-3"}, "pbt: expected several values of learning_rate, max_norm or"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, given, message):
    swept = settings.Swept(learning_rate=given.pop("lr", None))
    with pytest.raises(BadInput, match=message):
        command._trainer(settings.Settings(sweep=swept, **given), tmp_path)
    assert not (tmp_path / "study.db").exists()


RANGES = {
    "rate": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "cell": optuna.distributions.CategoricalDistribution(["gru", "rnn", "lstm"]),
}
TABLE = sweep.Result(({"id": "a", "loss": 1.0},), (), ("rate", "cell"), "loss", "min")


def test_a_search_leaves_the_folder_of_a_sweep_as_it_is(tmp_path):
    (tmp_path / "sweep.json").touch()
    with pytest.raises(BadInput, match=r"out: expected a new folder, or one of a search, got "):
        searches.study(settings.Settings(search="tpe"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_sampler_without_its_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(searches.importlib.util, "find_spec", lambda name: None)
    message = "search: expected the package cmaes, which Optuna needs .*; pip install cmaes"
    with pytest.raises(BadInput, match=message):
        searches.study(settings.Settings(search="cmaes"), tmp_path)


@pytest.mark.parametrize("name", settings.SAMPLERS)
def test_every_sampler_that_is_offered_is_one_of_optuna(name):
    assert hasattr(optuna.samplers, settings.SAMPLERS[name][0])


def study_of(values, params=({"rate": 0.01, "cell": "gru"},)):
    """A study whose trials have ended a second after one another; NaN is a pruned one."""
    study = optuna.create_study()
    for value, some in zip(values, itertools.cycle(params), strict=False):
        state = {"state": optuna.trial.TrialState.PRUNED} if np.isnan(value) else {"value": value}
        study.add_trial(optuna.trial.create_trial(params=some, distributions=RANGES, **state))
    for i, trial in enumerate(study.get_trials(deepcopy=False)):
        trial.datetime_start = datetime(2026, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=i + 1)
    return study


def drawn(panel):
    axes = Figure().subplots()
    return axes, panel(axes)


def test_the_best_so_far_is_drawn_by_proposals_and_by_the_clock():
    study = study_of([3.0, 5.0, NAN, 2.0, 4.0])
    by_number, by_clock, *_ = search_picture.panels(study, TABLE)
    for panel, label in ((by_number, "proposals"), (by_clock, "seconds")):
        axes, _ = drawn(panel)
        dots, best = axes.lines
        assert axes.get_xlabel() == label
        np.testing.assert_array_equal(best.get_xdata(), [1, 2, 4, 5])
        np.testing.assert_array_equal(dots.get_ydata(), [3, 5, 2, 4])
        np.testing.assert_array_equal(best.get_ydata(), [3, 3, 2, 2])
    most = sweep.Result(TABLE.rows, (), TABLE.fields, "loss", "max")
    best = drawn(search_picture.panels(study, most)[0])[0].lines[1]
    np.testing.assert_array_equal(best.get_ydata(), [3, 5, 5, 5])


def test_the_importances_are_those_of_optuna_if_there_are_enough_proposals():
    rates = np.geomspace(1e-4, 1e-1, 40).tolist()
    params = [{"rate": rate, "cell": ["gru", "rnn"][i % 2]} for i, rate in enumerate(rates)]
    study = study_of(rates, params)
    importances = search_picture.panels(study, TABLE)[2]
    axes, _ = drawn(importances)
    names = [text.get_text() for text in axes.texts]
    shares = dict(zip(names, [bar.get_width() for bar in axes.patches], strict=True))
    assert shares["rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    few = study_of(rates[:5], params)
    axes, _ = drawn(search_picture.panels(few, TABLE)[2])
    assert [text.get_text() for text in axes.texts] == ["too few proposals"]


def test_proposals_cross_the_axes_at_their_values_with_the_best_on_top():
    places = zip((1e-4, 1e-1, 10**-2.5), RANGES["cell"].choices, strict=True)
    study = study_of([2.0, 1.0, 3.0], [{"rate": rate, "cell": cell} for rate, cell in places])
    axes, _ = drawn(search_picture.panels(study, TABLE)[3])
    paths = [line.get_ydata() for line in axes.lines if line.get_color() != "#555555"]
    np.testing.assert_allclose(paths, [[0, 0], [0.5, 1], [1, 0.5]], atol=1e-9)


def test_the_lineage_of_the_best_is_told():
    def line(id, step, loss, rate, **parent):
        return {"id": id, "step": step, "metrics": {"loss": loss, "rate": rate, **parent}}

    a, b = "00000000000a", "00000000000b"
    history = (
        *(line(a, 1, 5.0, 0.5), line(b, 1, 9.0, 0.1, parent=10.0)),
        *(line(a, 2, 4.0, 0.5), line(b, 2, 3.0, 0.4)),
    )
    rows = tuple(
        {"id": id, "cell": "gru", "rate": rate, "status": "done", "steps": 2, "loss": loss}
        for id, rate, loss in ((a, 0.5, 4.0), (b, 0.1, 3.0))
    )
    result = sweep.Result(rows, history, ("cell", "rate"), "loss", "min")
    assert "a loss of 3; rate went from 0.5 to 0.4 on the way" in population.headline(
        result, ["rate"]
    )
    table = population.table(result, ["rate"])
    assert table.rows == [
        ["from 0.5 to 0.4", "3", "1", "2"],
        ["from 0.5 to 0.5", "4", "0", "2"],
    ]
    of_loss, of_rate = population.panels(result, ["rate"])
    for panel, path in ((of_loss, [5, 3]), (of_rate, [0.5, 0.4])):
        _, handles = drawn(panel)
        np.testing.assert_array_equal(handles["the lineage of the best"].get_ydata(), path)
        assert handles["goes on in a copy"].get_xydata().tolist() == [[1, path[0]]]
