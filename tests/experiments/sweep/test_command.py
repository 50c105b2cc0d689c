"""Sweeps from the command line: what is run once, and what the report says."""

import io
import itertools
import json
import math
import re

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.__main__ import main
from experiments.lab import console
from experiments.sweep import command, picture, ranking, report, settings
from seqcells import sweep

SMALL = ["--steps", "4", "--segment", "2", "--static.hidden-size", "4", "--static.batch-size", "3"]
SPACE = ["--sweep.lr", "1e-3,1e-2", "--static.cell", "tanh", "gru", "--seeds", "2"]


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda *_: None)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.__main__.use_all_cores", lambda *_: None)
        assert main(["sweep", "delayed_recall", *SPACE, *SMALL, "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_every_cell_that_is_offered_trains():
    for name in settings.CELLS:
        task = command.make("parity", cell=name, hidden_size=4, length=5, batch_size=2)
        space = sweep.Space(
            learning_rate=[1e-3], init_gain=[1.0], max_norm=[1.0], weight_decay=[0.0], seed=[0]
        )
        (row,) = sweep.run(lambda task=task: task, space, 1).rows
        assert row["status"] == "done", name


@pytest.mark.parametrize(
    ("cell", "names"),
    [("gru", {"w_hh"}), ("cornn", {"w_hh", "w_zh"}), ("grud", {"w_hh"})],
)
def test_a_gain_scales_recurrent_weights_alone(cell, names):
    task = command.make("parity", cell=cell, hidden_size=4, length=5, batch_size=2)
    other = {"learning_rate": 1e-3, "max_norm": 1.0, "weight_decay": 0.0}
    one, two = (
        jax.tree_util.tree_leaves_with_path(
            task.init({"init_gain": gain, **other}, jax.random.key(0)).params.cell
        )
        for gain in (1.0, 2.0)
    )
    for (path, a), (_, b) in zip(one, two, strict=True):
        assert (b == a * (2 if path[-1].name in names else 1)).all(), path
    assert names <= {path[-1].name for path, _ in one}


def test_a_sweep_leaves_a_table_a_page_and_its_arguments(swept):
    page = (swept / "report.html").read_text("utf-8")
    assert "learning_rate" in page
    assert (swept / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert "| gru " in (swept / "results.md").read_text("utf-8")
    assert len((swept / "results.csv").read_text("utf-8").splitlines()) == 1 + 2 * 2 * 2
    about = json.loads((swept / "run.json").read_text("utf-8"))
    assert about["probe"] == "delayed_recall"
    assert about["command"].startswith("python -m experiments sweep delayed_recall --sweep.lr")


def test_a_finished_sweep_runs_nothing_when_it_is_resumed(swept, monkeypatch):
    lines = (swept / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(sweep.Task, "__new__", None)  # creating a task would raise
    assert main(["resume", str(swept)]) == 0
    assert (swept / "metrics.jsonl").read_bytes() == lines


def test_its_status_is_shown_while_it_runs_and_touches_nothing(swept, tmp_path, capsys):
    for name in ("run.json", "sweep.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((swept / name).read_bytes())
    whole = (swept / "trials.jsonl").read_bytes()
    rows = whole.splitlines(keepends=True)
    half = b"".join(rows[:3]) + rows[3][:20]  # a line that is being written
    (tmp_path / "trials.jsonl").write_bytes(half)
    assert main(["status", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "8 trials: 3 done, 5 unfinished." in " ".join(printed.split())
    assert re.search(r"5 in training at step 4 of 4, best loss [\d.]+, \d+ s ago", printed)
    assert f"python -m experiments resume {tmp_path}" in printed
    assert (tmp_path / "trials.jsonl").read_bytes() == half


def test_a_sweep_that_compiles_has_a_status(swept, tmp_path, capsys):
    (tmp_path / "run.json").write_bytes((swept / "run.json").read_bytes())
    assert main(["status", str(tmp_path)]) == 0
    assert "no segment is finished yet" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_now_and_then_elsewhere(terminal, monkeypatch):
    file = io.StringIO()
    with console.progress_bar(Console(file=file, force_terminal=terminal), first=0) as bar:
        task = bar.add_task("", total=4)
        bar.update(task, description="a group", completed=0)
        for done in (1, 2):
            bar.update(task, completed=done)
        monkeypatch.setattr(console, "EVERY", 0.0)
        bar._next = 0
        bar.update(task, completed=3)
    lines = [line for line in file.getvalue().splitlines() if "%" in line]
    assert lines == ([] if terminal else ["a group: 25 %", "a group: 75 %"])


def test_a_log_says_how_far_a_sweep_is():
    out = io.StringIO()
    with console.progress_bar(Console(file=out, width=200), first=0) as bar:
        show = command._show_progress(bar, steps=8, total=16)
        show(sweep.Progress({"cell": "tanh"}, 2, 2, 0, 2, 4, 0.5))
    assert out.getvalue().strip() == "tanh: 2 alive at step 2, best 0.5, 0 of 2 finished: 25 %"


def test_a_folder_of_a_sweep_is_reported_again(swept, capsys):
    (swept / "report.html").unlink()
    assert main(["report", str(swept)]) == 0
    assert (swept / "report.html").exists()
    assert "Best: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sweep"], "sweep: expected the name of a probe"),
        (["sweep", "coppy"], "Did you mean copy?"),
        (["status"], "status: expected the folder of a sweep"),
        (["resume", "nowhere"], "out: expected the folder of a sweep"),
        (["sweep", "copy", "--steps", "7", "--segment", "2"], "steps: expected a multiple of"),
        (["sweep", "copy", "--seeds", "0"], "seeds: expected a whole number, at least 1"),
        (["sweep", "copy", "--static.hidden-size", "0"], "static.hidden_size: expected a whole"),
        (["sweep", "copy", "--static.length", "-3"], "static.length: expected a whole number"),
        (["sweep", "mqar", "--static.length", "3"], "static.length: mqar does not support 3"),
        (["sweep", "copy", "--sweep.lr", "uniform:0:1"], "samples: expected a number"),
        (
            ["sweep", "parity", "--sweep.init-gain", "1,2", "--static.cell", "gru", "mingru"],
            "sweep.init_gain: expected 1 for mingru, which has no recurrent weights to scale",
        ),
    ],
)
def test_a_wrong_command_says_what_was_expected(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def result_of(*configurations, metric="loss"):
    """A sweep of one field, with the losses of the seeds of each value; NaN has diverged."""
    rows = [
        {"id": f"{lr}-{seed}", "lr": float(lr + 1), "seed": seed, "steps": 4, metric: value}
        | {"status": "diverged" if math.isnan(value) else "done", "seconds": 1.0}
        for lr, values in enumerate(configurations)
        for seed, value in enumerate(values)
    ]
    history = [{"id": row["id"], "step": 4, "metrics": {metric: row[metric]}} for row in rows]
    return sweep.Result(tuple(rows), tuple(history), ("lr", "seed"), metric, "min")


NAN = math.nan


@pytest.mark.parametrize(
    ("configurations", "said"),
    [
        (([1.0, 1.1, 0.9], [2.0, 2.1, 1.9]), None),
        (([1.0, 1.1, 0.9], [1.05, 1.2, 0.95]), "1 other cannot be distinguished"),
        (([1.0, 2.0], [1.1, 2.1], [1.2, 1.9]), "2 others cannot be distinguished"),
        (([2e-5, 4e-5], [0.2, 0.5]), None),  # of the losses themselves, intervals overlap
        (([1.0], [2.0]), "With one seed, the lead may be chance"),
        (([1.0, 1.1], [1.0, NAN]), None),  # who diverged is behind
        (([1.0, NAN, NAN],), "2 of its seeds diverged"),
        (([NAN, NAN],), "No configuration has a finite loss"),
        (([-1.0, 1.0], [-0.9, 1.1]), "1 other cannot be distinguished"),
    ],
)
def test_a_lead_that_may_be_chance_is_called_so(configurations, said):
    result = result_of(*configurations)
    text = report.headline(result, ranking.rank(result))
    assert said in text if said else "distinguished" not in text


def test_the_interval_of_a_loss_stays_above_0_and_is_of_the_logarithms():
    best, other = ranking.rank(result_of([0.3, 0.5], [1e-5, 1e-3]))
    assert best["mean"] == pytest.approx(1e-4)
    assert 0 < best["low"] < 1e-5 < 1e-3 < best["high"]
    assert (best["rank"], best["lr"], other["rank"], other["lr"]) == (1, 2.0, 2, 1.0)
    (row,) = ranking.rank(result_of([-1.0, 1.0]))
    assert (row["mean"], row["low"]) == (0, pytest.approx(-12.706, abs=1e-3))


def test_a_configuration_that_diverged_has_no_curve_and_ruins_no_axis(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(picture.lab, "save", lambda figure, path: kept.append(figure))
    result = result_of([0.1, 0.2], [NAN, NAN], [1e32, 0.3], [0.2, 0.25])
    picture.draw(picture.panels(result, ranking.rank(result)), result, tmp_path / "a.png")
    curves, by_lr = kept[0].axes[:2]
    (legend,) = kept[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["1", "4", "3", "the best trial", "diverged"]
    assert not curves.get_legend()
    assert by_lr.get_ylim()[1] < 10
    (crosses,) = [line for line in by_lr.lines if line.get_marker() == "x"]
    assert sorted(crosses.get_xdata()) == [2.0, 2.0, 3.0]


def test_a_surface_is_of_one_cell(monkeypatch, tmp_path):
    rows, history = [], []
    for cell, lr, gain in itertools.product(("a", "b"), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)):
        value = lr * gain * (1 if cell == "b" else 100)
        key = {"id": f"{cell}{lr}{gain}", "cell": cell, "lr": lr, "gain": gain}
        rows.append(key | {"status": "done", "steps": 1, "loss": value, "seconds": 1.0})
    result = sweep.Result(tuple(rows), tuple(history), ("cell", "lr", "gain"), "loss", "min")
    kept = []
    monkeypatch.setattr(picture.lab, "save", lambda figure, path: kept.append(figure))
    picture.draw(picture.panels(result, ranking.rank(result)), result, tmp_path / "a.png")
    (surface,) = [axes for axes in kept[0].axes if axes.images]
    assert surface.get_title(loc="left") == "cell b"
    np.testing.assert_array_equal(surface.images[0].get_array(), np.outer([1, 2, 3], [1, 2, 3]))


def test_values_that_were_drawn_are_dots_that_nothing_joins(monkeypatch, tmp_path):
    rows = [
        {"id": f"{i}", "lr": 0.1 + i, "gain": 2.0 - i / 8, "cell": cell, "seed": seed}
        | {"status": "done", "steps": 1, "loss": i + seed / 2, "seconds": 1.0}
        for i, cell, seed in itertools.product(range(4), "ab", range(2))
    ]
    result = sweep.Result(tuple(rows), (), ("cell", "lr", "gain", "seed"), "loss", "min")
    kept, ranked = [], ranking.rank(result)
    monkeypatch.setattr(picture.lab, "save", lambda figure, path: kept.append(figure))
    picture.draw(picture.panels(result, ranked, ["lr", "gain"]), result, tmp_path / "a.png")
    by_cell, by_lr, _, surface = kept[0].axes[1:5]
    assert [len(axes.lines) for axes in (by_cell, by_lr)] == [2, 1]
    (dots,) = surface.collections
    assert surface.get_title(loc="left") == "cell a"
    places = dict(zip(map(tuple, dots.get_offsets().tolist()), dots.get_array(), strict=True))
    assert places == {(0.1 + i, 2.0 - i / 8): i + 0.25 for i in range(4)}


def test_curves_are_written_for_tensorboard(swept, tmp_path):
    pytest.importorskip("tensorboardX")
    for path in swept.glob("*.json*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert report.to_tensorboard(tmp_path) == 8
    assert len(list((tmp_path / "tensorboard").glob("*/events.*"))) >= 8


def test_a_sweep_in_which_all_diverge_says_so_and_fails(tmp_path, capsys):
    wild = ["--sweep.lr", "1e38", "--sweep.max-norm", "1e38", "--seeds", "1", *SMALL]
    assert main(["sweep", "adding_tcn", *wild, "--out", str(tmp_path)]) == 1
    assert "all 1 trials" in " ".join(capsys.readouterr().err.split())
    file = io.StringIO()
    report.report(tmp_path, Console(file=file, width=200))
    assert "No configuration has a finite loss." in file.getvalue()
