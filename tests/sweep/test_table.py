"""The table: what is ranked above what, and the files that hold it."""

import sys

import numpy as np
import pytest
from scipy import stats

from seqcells import sweep
from seqcells.sweep import _table
from tests.support.sweeps import make, space


def test_ranks_are_over_seeds_with_the_interval_of_student(once):
    result = sweep.run(make, space(boom=(-1, 3)), 10, segment=10)
    best, _, *last = result.ranked()
    values = [row["loss"] for row in result.rows if row["lr"] == best["lr"] and row["boom"] == -1]
    interval = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([best["low"], best["high"]], interval, 1e-6)
    assert [rank["boom"] for rank in result.ranked()] == [-1, -1, 3, 3]
    assert last[0]["diverged"] == 4
    assert np.isnan(_table.interval(np.ones(1))[1])


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
