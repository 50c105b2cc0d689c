"""The table: what is ranked above what, and the files that hold it."""

import csv
import dataclasses
import io
import sys

import numpy as np
import pytest
from scipy import stats

from seqcells import sweep
from seqcells.sweep._columns import Lines
from seqcells.sweep._lines import METRICS, TRIAL
from tests.support.sweeps import Killed, make, space


def test_ranks_are_over_seeds_with_the_interval_of_student(once):
    result = sweep.run(make, space(boom=(-1, 3)), 10, segment=10)
    best, _, *last = result.ranked()
    values = [row["loss"] for row in result.rows if row["lr"] == best["lr"] and row["boom"] == -1]
    interval = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([best["low"], best["high"]], interval, 1e-6)
    assert [rank["boom"] for rank in result.ranked()] == [-1, -1, 3, 3]
    assert last[0]["diverged"] == 4
    single = result.ranked(over=None)[0]
    assert single["n"] == 1
    assert np.isnan([single["low"], single["high"]]).all()


def test_geometric_means_have_the_interval_of_logarithms():
    losses = {0.1: [1e-4, 1e-2, 1.0], 0.2: [0.1, 0.2, 0.3]}
    rows = tuple(
        {"lr": lr, "seed": seed, "status": "done", "steps": 1, "loss": loss}
        for lr, values in losses.items()
        for seed, loss in enumerate(values)
    )
    result = sweep.Result(rows, (), ("lr", "seed"), "loss", "min")
    assert [rank["lr"] for rank in result.ranked()] == [0.2, 0.1]
    best, other = result.ranked(mean="geometric")
    assert (best["lr"], other["lr"]) == (0.1, 0.2)
    logs = np.log(losses[0.1])
    low, high = stats.t.interval(0.95, 2, np.mean(logs), stats.sem(logs))
    expected = np.exp([low, np.mean(logs), high])
    np.testing.assert_allclose([best[name] for name in ("low", "mean", "high")], expected)
    with pytest.raises(
        ValueError, match="mean: expected one of 'arithmetic', 'geometric', got 'log'"
    ):
        result.ranked(mean="log")


@pytest.mark.parametrize(("mode", "best"), [("min", [0.1, 0.2, 0.3]), ("max", [0.3, 0.2, 0.1])])
def test_ranks_follow_the_mode(mode, best):
    """What was trained for longer comes before what is better."""
    row = {"status": "done", "steps": 30, "seed": 0}
    losses = {0.1: 0.2, 0.2: 0.4, 0.3: 0.6}
    rows = [row | {"lr": lr, "loss": loss} for lr, loss in losses.items()]
    rows += [row | {"lr": 0.5, "loss": loss, "status": "pruned", "steps": 10} for loss in (0, 1)]
    ranks = sweep.Result(tuple(rows), (), ("lr", "seed"), "loss", mode).ranked()
    assert [rank["lr"] for rank in ranks] == [*best, 0.5]
    assert [rank["rank"] for rank in ranks] == [1, 2, 3, 4]


def test_a_seed_that_ended_in_nan_ranks_below_what_was_pruned_early():
    row = {"status": "done", "steps": 30, "loss": 0.1}
    rows = (
        row | {"lr": 1.0, "seed": 0},
        row | {"lr": 1.0, "seed": 1, "status": "diverged", "loss": np.nan},
        row | {"lr": 0.1, "seed": 0, "status": "pruned", "steps": 10, "loss": 0.5},
    )
    ranks = sweep.Result(rows, (), ("lr", "seed"), "loss", "min").ranked()
    read = [(rank["lr"], rank["n"], rank["diverged"]) for rank in ranks]
    assert read == [(0.1, 1, 0), (1.0, 1, 1)]


def test_a_rank_is_over_values_of_one_type():
    rows = [{"status": "done", "steps": 1, "loss": 1.0, "n": n} for n in (1, True, 1.0, 0.0, -0.0)]
    result = sweep.Result(tuple(rows), (), ("n",), "loss", "min")
    assert len(result.ranked()) == 5
    with pytest.raises(ValueError, match="over: expected one of n, got 'sede'"):
        result.ranked(over="sede")


def test_a_folder_is_read_as_it_was_written(tmp_path, once):
    """Also in part, and with trials that have not been run."""
    some = space(seeds=2, lr=[0.1])
    result = sweep.run(make, some, 10, segment=10, batch=2, mode="max", out=tmp_path)
    read = sweep.load(tmp_path, some)
    assert (read.rows, read.metric, read.mode) == (result.rows, "loss", "max")
    assert sorted(map(str, read.history)) == sorted(map(str, result.history))
    assert read.ranked() == result.ranked()
    more = sweep.load(tmp_path, space(seeds=3, lr=[0.1]))
    assert [row["status"] for row in more.rows] == ["done", "done", "unfinished"]
    fewer = sweep.load(tmp_path, space(seeds=1, lr=[0.1]))
    assert fewer.history == tuple(
        line for line in result.history if line["id"] == fewer.rows[0]["id"]
    )
    none = sweep.load(tmp_path, space(seeds=1, lr=[0.5]))
    assert (none.ranked(), none.history, none.training()) == ([], (), [])


def test_a_table_of_which_nothing_is_stored_has_its_metric():
    columns = sweep.Space(lr=[0.1, 0.2]).columns()
    nothing = Lines.of([], TRIAL), Lines.of([], METRICS)
    result = sweep.Result.of(columns, *nothing, metric="loss", mode="min")
    assert np.isnan(result.column("loss")).all()
    assert (len(result.rows), result.ranked()) == (2, [])


def test_configurations_that_are_equally_good_stay_in_order():
    row = {"status": "done", "steps": 1, "loss": 1.0}
    points = [(0.1, 1), (0.2, 1), (0.1, 2), (0.3, 1)]
    rows = tuple(row | {"lr": lr, "size": size} for lr, size in points)
    ranks = sweep.Result(rows, (), ("lr", "size"), "loss", "min").ranked()
    assert [(rank["lr"], rank["size"]) for rank in ranks] == points


def test_the_last_lines_of_unfinished_trials_are_those_in_training(tmp_path, once):
    def kill(progress):
        if progress.step == 20:
            raise Killed

    one, two = (space(seeds=n, lr=[0.1]) for n in (1, 2))
    settings = {"steps": 30, "segment": 10, "batch": 1, "out": tmp_path}
    assert sweep.run(make, one, **settings).training() == []
    (tmp_path / "metrics.jsonl").rename(tmp_path / "moved")
    (tmp_path / "metrics.jsonl").write_text("damaged\n", encoding="utf-8")  # but not needed
    assert len(sweep.load(tmp_path, one, "unfinished").history) == 0
    with pytest.raises(ValueError, match="line 1 of"):
        sweep.load(tmp_path, one)
    (tmp_path / "moved").rename(tmp_path / "metrics.jsonl")
    with pytest.raises(Killed):
        sweep.run(make, two, **settings, on_segment=kill)
    read, whole = sweep.load(tmp_path, two, "unfinished"), sweep.load(tmp_path, two)
    at = read.rows[1]["id"]
    assert [(line["id"], line["step"]) for line in read.training()] == [(at, 20)]
    assert [(line["id"], line["step"]) for line in read.history] == [(at, 10), (at, 20)]
    assert len(whole.history) == 5
    by_hand = dataclasses.replace(whole, rows=tuple(whole.rows), history=tuple(whole.history))
    assert by_hand.training() == whole.training() == read.training()


def test_the_table_is_written_as_csv_and_parquet(tmp_path, once, monkeypatch):
    pandas = pytest.importorskip("pandas")
    result = sweep.run(make, space(boom=(-1, 3)), 10, segment=10)
    result.to_csv(tmp_path / "a.csv")
    read = pandas.read_csv(tmp_path / "a.csv", dtype={"id": str})
    pandas.testing.assert_frame_equal(read, result.to_pandas())
    pytest.importorskip("pyarrow")
    result.to_parquet(tmp_path / "a.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "a.parquet"), read)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r'^pyarrow: .*pip install "seqcells\[sweep\]"$'):
        result.to_parquet(tmp_path / "b.parquet")


def test_a_column_of_several_types_is_text_in_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    columns = {  # what is read back
        "text": ([16, "auto", None], ["16", "auto", None]),
        "flag": ([False, 0.5, 1], ["False", "0.5", "1"]),
        "long": ([2**80, 1, None], [str(2**80), "1", None]),
        "some": ([None, "a", "b"], [None, "a", "b"]),
        "part": ([None, 0.5, 0.25], [None, 0.5, 0.25]),
        "size": ([1, 2, 3], [1, 2, 3]),
    }
    rows = [{name: values[i] for name, (values, _) in columns.items()} for i in range(3)]
    sweep.Result(tuple(rows), (), (), "loss", "min").to_parquet(tmp_path / "a.parquet")
    read = pandas.read_parquet(tmp_path / "a.parquet")
    for name, (_, expected) in columns.items():
        assert [None if pandas.isna(value) else value for value in read[name]] == expected


KINDS = ["a", 1, None, 2**80, 0.5, True]  # static values of many types


def stored(kinds):
    """A table of which a part is stored, as columns, and the same by hand, as dicts."""
    space = sweep.Space(lr=[0.1, 0.2], seed=range(2), static={"kind": kinds})
    rows = [
        {"id": trial.id, "status": "done", "steps": i, "metrics": {"loss": loss}, "seconds": 0.5}
        for i, (trial, loss) in enumerate(zip(space.trials(), [1.0, -0.0, 1 / 3], strict=False))
    ]
    lines = Lines.of(rows, TRIAL), Lines.of([], METRICS)
    columns = sweep.Result.of(space.columns(), *lines, metric="loss", mode="min")
    return columns, dataclasses.replace(columns, rows=tuple(columns.rows))


@pytest.mark.parametrize("kinds", [KINDS, [1, 2], [True, False], [None, 0.5], [None, "a"]])
def test_columns_give_the_tables_that_rows_give(kinds, tmp_path):
    columns, by_hand = stored(kinds)
    trials = sweep.Space(lr=[0.1, 0.2], seed=range(2), static={"kind": kinds}).trials()
    rows = by_hand.rows
    assert [[type(v) for v in row.values()] for row in columns.rows] == [
        [str, *map(type, trial.fields.values()), str, int, float, float] for trial in trials
    ]
    assert [row["status"] for row in rows[:4]] == ["done"] * 3 + ["unfinished"]
    assert str(columns.ranked()) == str(by_hand.ranked())
    columns.to_csv(tmp_path / "a.csv")
    writer = csv.DictWriter(text := io.StringIO(), list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    assert (tmp_path / "a.csv").read_text("utf-8") == text.getvalue()
    pandas = pytest.importorskip("pandas")
    pandas.testing.assert_frame_equal(columns.to_pandas(), pandas.DataFrame(list(rows)))
    pandas.testing.assert_frame_equal(by_hand.to_pandas(), pandas.DataFrame(list(rows)))


def test_the_table_in_polars_keeps_types_and_bits(monkeypatch):
    polars = pytest.importorskip("polars")
    columns, by_hand = stored(KINDS)
    table = columns.to_polars()
    assert table.equals(by_hand.to_polars())
    text, number, whole = polars.String, polars.Float64, polars.Int64
    types = [text, text, number, whole, text, whole, number, number]
    assert table.dtypes == types
    assert table["kind"].unique(maintain_order=True).to_list() == [
        None if kind is None else str(kind) for kind in KINDS
    ]
    assert str(table["loss"].to_list()) == str([row["loss"] for row in columns.rows])
    assert stored([1, 2])[0].to_polars()["kind"].dtype == whole
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ModuleNotFoundError, match=r'^polars: .*pip install "polars"$'):
        columns.to_polars()
