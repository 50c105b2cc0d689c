"""Benchmarks of seqcells itself: sweeps, whole trainings, flags, scaling."""

import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from benchmarks import __main__ as cli
from benchmarks.harness import tables
from benchmarks.harness.problem import Shape
from benchmarks.suites import (
    configurations,
    dispatch,
    flags,
    newton,
    options,
    scaling,
    schedule,
    sweep,
)
from experiments import lab
from tests.benchmarks.test_peers import ABOUT, python


def test_collectives_are_found_in_a_program():
    text = "%a = f32[2] all-reduce(%b)\n%c = all-gather-start(%d)\n%e = f32[2] add(%a, %c)"
    assert sweep.collectives(text) == ["all-gather", "all-reduce"]
    assert sweep.collectives("%e = f32[2] add(%a, %c)") == []


@pytest.mark.slow
def test_every_way_to_train_configurations_gives_the_same_losses():
    ways = configurations.contestants(3, Shape("small", 2, 5, 3, 4), 4)
    losses = [call() for call in ways.values()]
    assert len(ways) == 3
    assert len(set(losses[0])) == 3
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-5)
    assert len(configurations.contestants(17, Shape("small", 2, 5, 3, 4), 4)) == 2


@pytest.mark.slow
@pytest.mark.skipif(lab.cores() < 2, reason="needs a core for each device")
def test_a_sweep_is_spread_over_devices(tmp_path):
    line = ["sweep", "--members", "2", "--hidden-size", "4", "--devices", "2", "--seconds", "0.01"]
    done = python(*line, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = sweep.BENCHMARK.read(tmp_path / "sweep-cpu-2cores.csv")
    ways = [f"{name} {way}" for name in ("seqcells", "naive") for way in ("vmapped", "looped")]
    ways.append("seqcells in turn")
    assert [row["contestant"] for row in rows] == [*ways, sweep.SHARDED]
    assert all(row["ms"] > 0 for row in rows)
    assert "seqcells sharded" in (tmp_path / "sweep-cpu-2cores.md").read_text("utf-8")


@pytest.mark.slow
def test_flags_mean_the_same_and_are_timed_beside_none(tmp_path):
    shape = Shape("tiny", 3, 6, 2, 4)
    drawn = flags.draw(shape)
    lengths, mask = drawn["lengths"]["lengths"], drawn["mask"]["mask"]
    np.testing.assert_array_equal(mask.sum(0), lengths)
    assert ((lengths >= 3) & (lengths <= 6)).all()
    rows = flags.measure("RNN", shape, "training", 0.01, lambda _: None)
    assert [row["contestant"] for row in rows] == ["none", "lengths", "mask", "resets"]
    assert rows[0]["ratio"] == 1
    assert all(row["ms"] > 0 for row in rows)
    page = flags.page([row | ABOUT for row in rows])
    assert "## Training, time over that without flags" in page
    assert "| RNN  | tiny  | 3,6,2,4 |" in page


def test_an_option_is_timed_where_it_changes_what_is_chosen(monkeypatch):
    shape, every = Shape("tiny", 2, 6, 2, 4), options.engines(sc.LSTM(4), jnp.ones((6, 2, 2)))
    assert {"chosen", "joined", "columns", "keep nothing"} < set(every)
    assert not {"rows", "keep slopes", "one window"} & set(every)  # which are chosen
    assert "joined" not in options.engines(sc.GRU(4), jnp.ones((6, 2, 2)))
    monkeypatch.setattr(options, "OPTIONS", {"columns": sc.Deferred(product="columns")})
    rows = options.measure("GRU", shape, "forward", 0.01, lambda _: None)
    assert [row["contestant"] for row in rows] == ["chosen", "columns"]
    page = options.page([row | ABOUT for row in rows])
    assert "## Forward, time over that of the choice" in page
    assert "| GRU  | 2,6,2,4 |" in page


def test_the_regret_of_a_choice_is_over_the_best_of_a_grid(monkeypatch):
    drawn = list(schedule.draw_shapes(6, seed=3))
    assert drawn == list(schedule.draw_shapes(8, seed=3))[:6]  # of one seed, in one order
    kind, shape = "LSTM", Shape("tiny", 2, 300, 2, 4)
    assert {"Scan()", "chunk=8 keep=drive+mixed"} < set(schedule.grid(kind, shape, "training"))
    joined = [name for name in schedule.grid(kind, shape, "forward") if "joined" in name]
    assert joined == ["chunk=300 keep=- joined"]
    few = {"Scan()": sc.Scan(), "chunk=8": sc.Deferred(chunk=8)}
    monkeypatch.setattr(schedule, "grid", lambda *_: few)
    (row,) = schedule.measure(kind, shape, "forward", 0.01, lambda _: None)
    assert row["best"] in few
    assert row["chosen"] == "chunk=300 keep=slopes joined"
    assert row["contestant"] == "chosen"
    assert row["ratio"] > 0
    assert "| forward |      1 |" in schedule.page([row | ABOUT])


@pytest.mark.slow
def test_every_flag_of_a_call_means_the_same_by_hand():
    for name, given in dispatch.draw().items():  # `measure` compares before it times
        rows = dispatch.measure(name, given, 0.01, lambda _: None)
        assert [row["contestant"] for row in rows] == ["seqcells", "naive"]


def test_scaling_reports_slopes_and_is_drawn(tmp_path):
    rows = [
        {"axis": "T", "value": t, "B": 1, "T": t, "I": 2, "H": 3, "contestant": who}
        | {"ms": t * k, "ms_low": t * k, "ms_high": t * k}
        | dict.fromkeys((*scaling.BENCHMARK.columns[10:], *ABOUT), 1)
        for t in (64, 128, 256)
        for who, k in (("seqcells", 1.0), ("naive", 2.0))
    ]
    page = scaling.page(rows)
    assert "- naive grows as T^1.00, at the end as T^1.00" in page
    tables.write(tmp_path / "scaling-cpu-1core.csv", rows, list(rows[0]))
    assert cli.main(["plot", "--results", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"


def test_newtons_method_is_not_timed_where_it_has_not_solved_the_equations(monkeypatch):
    failing = sc.Newton(max_iters=1, on_fail="flag")
    monkeypatch.setattr(newton, "WAYS", {"scan": sc.Scan(), "Newton": failing})
    place = ("RNN", Shape("tiny", 1, 9, 2, 4), "initial", "forward", 0, 0.01)
    with pytest.raises(ValueError, match="Newton: expected the outputs of scan"):
        newton.measure(*place, lambda _: None)


@pytest.mark.slow
def test_newtons_method_is_timed_beside_loops():
    place = ("MinGRU", Shape("tiny", 2, 9, 2, 4), "trained", "training", 2, 0.01)
    rows = newton.measure(*place, lambda _: None)
    assert [row["contestant"] for row in rows] == [*newton.WAYS, "associative"]
    reached = {row["contestant"]: (row["iterations"], row["converged"]) for row in rows}
    assert reached["Newton"] == reached["Newton diagonal"] == (1, 1)
    page = newton.page([row | ABOUT for row in rows])
    assert "a model, not a measurement" in page.lower()
