"""Workers and time limits from the command line."""

import contextlib
import io
import json
import os
import platform

import pytest
from rich.console import Console

from experiments.__main__ import main
from experiments.lab import BadInput
from experiments.sweep import executors, report
from seqcells.sweep import _lease
from tests.support.executors import Here

SMALL = ["--steps", "4", "--segment", "2", "--static.hidden-size", "4", "--static.batch-size", "3"]
LINE = ["sweep", "delayed_recall", "--seeds", "2", *SMALL, "--batch", "2"]


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda *_: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threads:2", "executor: expected processes:2, dask:.*, got 'threads:2'"),
        ("processes", "executor: expected processes:N, .*, got 'processes'"),
        ("processes:0", "executor: expected processes:N"),
        ("submitit:jobs=none", "executor: expected jobs=N, .*, got 'submitit:jobs=none'"),
        ("submitit:color=red", "executor: expected parameters of submitit, got .*color"),
        ("dask://localhost:1", "executor: expected the scheduler of Dask at dask://localhost:1"),
    ],
)
def test_wrong_executors_are_refused_in_one_line(text, message, tmp_path, monkeypatch):
    pytest.importorskip({"submitit": "submitit", "dask": "distributed"}.get(text[:8], "jax"))
    if text.startswith("dask"):
        pytest.importorskip("distributed")
        monkeypatch.setattr(executors, "PATIENCE", 0.2)
    with pytest.raises(BadInput, match=message), executors.started(text, tmp_path):
        pass


def test_names_of_executors(tmp_path):
    with executors.started(None, tmp_path) as options:
        assert options == {}
    with executors.started("processes:3", tmp_path) as options:
        assert options["executor"]._max_workers == 3
    pytest.importorskip("submitit")
    with executors.started("submitit:jobs=3,timeout_min=7", tmp_path) as options:
        assert options["in_flight"] == 3
        assert options["executor"]._executor.parameters["timeout_min"] == 7


def test_a_sweep_by_workers_can_be_stopped_resumed_and_watched(tmp_path, monkeypatch, capsys):
    """When the time is up before a trial is trained, there is nothing to report yet."""
    here = {"executor": Here()}
    monkeypatch.setitem(executors._KINDS, "here", lambda *_: contextlib.nullcontext(here))
    out = str(tmp_path / "out")
    assert main([*LINE, "--executor", "here", "--minutes", "1e-9", "--out", out]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.endswith(f"Everything is saved; to go on: python -m experiments resume {out}")
    assert main(["resume", out, "--executor", "here"]) == 0
    assert here["executor"].count == 3
    (batch := tmp_path / "out" / "batches" / "a").mkdir(parents=True)
    about = {"config": {}, "bucket": "a", "width": 2, "ids": ["1", "2"]}
    (batch / "batch.json").write_text(json.dumps(about), encoding="utf-8")
    with _lease.hold(batch) as lease:
        lease.show(step=2, alive=2, best=0.25)
        report.status(tmp_path / "out", Console(file=(text := io.StringIO()), width=200))
    assert "6 done" in text.getvalue()
    where = f"Process {os.getpid()} on {platform.node()}: "
    assert f"{where}2 trials at step 2, best loss 0.25." in text.getvalue()
