"""`peers`: contestants agree with seqcells, and what a run leaves behind."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as cli
from benchmarks.harness import contestants, machine, programs, timing
from benchmarks.harness.contestants import OURS, PEERS, Built, Naive
from benchmarks.harness.problem import CELLS, SHAPES, Shape, draw_inputs
from benchmarks.suites import peers
from benchmarks.suites.peers import compare

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
KEPT = RESULTS / "amd-epyc-avx512-1mib" / "peers-cpu-1core.csv"  # that of the page on speed
TINY = Shape("tiny", 2, 5, 3, 4)
ABOUT = dict.fromkeys(machine.COLUMNS, "?")


def python(*arguments, **env):
    """Run a command as a user does: it pins its process, so not in this one."""
    line = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(
        line, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300, check=False,
        env=os.environ | env,
    )  # fmt: skip


def imported(peer):
    """Import a framework, or skip; warnings of its import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            peer.load()
        except ImportError as error:
            pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("name", PEERS)
def test_a_contestant_computes_what_seqcells_computes(name, kind):
    peer = PEERS[name]
    imported(peer)
    entrant = compare.enter(peer, kind, TINY, draw_inputs(TINY))
    base = name.removesuffix("-unroll")
    if (base, kind) in [("equinox", "RNN"), ("naive-joined", "GRU")]:
        assert entrant is None
        return
    assert entrant.status == "ok"
    assert entrant.twin.hidden_size == TINY.H
    assert (entrant.twin != CELLS[kind](TINY.H)) == (
        (base, kind)
        in [("haiku", "RNN"), *((n, "GRU") for n in ("linen", "nnx", "haiku", "equinox"))]
    )


def test_a_peer_may_derive_from_another_but_needs_a_name_of_its_own():
    root = type("Root", (Naive,), {"name": "root"})
    base = type("Base", (root,), {"name": "base"})
    child = type("Child", (base,), {"name": "child"})
    found = contestants.find_peers(root)
    assert {name: type(peer) for name, peer in found.items()} == {"base": base, "child": child}
    child.name = "base"
    with pytest.raises(ValueError, match="name: expected different names, got 'base'"):
        contestants.find_peers(root)


class Wrong(Naive):
    """Its outputs are a little off."""

    def build(self, twin, params, shape):
        forward = super().build(twin, params, shape).forward
        return Built(lambda params, xs: forward(params, xs) + 2 * compare.TOLERANCE, params)


class WrongGradient(Naive):
    """Its outputs are right."""

    def build(self, twin, params, shape):
        forward = super().build(twin, params, shape).forward
        half = jax.lax.stop_gradient
        return Built(lambda p, xs: 0.5 * (forward(p, xs) + half(forward(p, xs))), params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "what", "status"),
    [(Wrong(), "forward", "outputs differ"), (WrongGradient(), "training", "gradients differ")],
)
def test_a_peer_that_disagrees_is_named_and_not_timed(peer, what, status, monkeypatch):
    monkeypatch.setitem(PEERS, "naive", peer)
    rows = compare.measure("RNN", TINY, [what], ["naive"], 1e-3, lambda _: None)
    ours, theirs, limit = rows
    assert (ours["status"], limit["status"]) == ("ok", "ok")
    assert theirs["status"].startswith(status)
    assert ours["ms"] > 0
    assert np.isnan(theirs["ms"])
    assert not theirs["best"]
    assert f"naive, RNN at tiny, {what}: {status}" in peers.page([row | ABOUT for row in rows])


@pytest.mark.parametrize("light", [False, True])
def test_what_does_less_work_is_nobodys_best(light, monkeypatch):
    monkeypatch.setattr(Naive, "lighter", {"GRU": "less"} if light else {})
    pair = OURS, PEERS["naive"]
    entrants = [compare.Entrant(p, CELLS["GRU"](4), Built(len, None), None, 0.0) for p in pair]
    times = {name: [1.0] * 5 for name in ("seqcells", "naive", compare.LIMIT)}
    built = {name: programs.Program(lambda: None, 1.0, 1.0) for name in times}
    rows = compare._rows("GRU", entrants, dict.fromkeys(times, "ok"), built, times)
    assert [row["best"] for row in rows] == [False, not light, False]
    assert rows[1]["computes"] == ("less" if light else "GRU(H)")


def test_nan_is_not_the_same():
    assert compare.verdict("outputs", float("nan")) != "ok"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run as a user makes it, where Haiku is not installed."""
    away, out = (tmp_path_factory.mktemp(name) for name in ("away", "results"))
    out = out / "[b] results [/b]"
    (away / "haiku.py").write_text(
        'raise ModuleNotFoundError("No module named haiku")', encoding="utf-8"
    )
    options = ["--cells", "RNN", "--peers", "naive", "linen", "haiku"]
    line = ["peers", "--shape", "2,5,3,4", *options, "--seconds", "0.01", "--out", out]
    done = python(*line, PYTHONPATH=str(away))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.slow
def test_a_run_leaves_a_row_for_each_contestant_and_a_page(finished):
    out, shown = finished
    frame = pd.read_csv(out / "peers-cpu-1core.csv")
    assert list(frame) == [*compare.COLUMNS, *machine.COLUMNS]
    who = ["seqcells", "naive", "linen", compare.LIMIT]
    assert frame.groupby("what")["contestant"].apply(list).to_dict() == {
        "forward": who,
        "training": who,
    }
    assert (frame["ms"] > 0).all()
    assert (frame["rounds"] >= timing.ROUNDS).all()
    assert set(frame["cores"]) == {1}
    assert list(frame.groupby("what")["best"].sum()) == [1, 1]
    assert set(frame["version"]) >= {f"jax {jax.__version__}", machine.version("flax")}
    timed = frame[frame["contestant"] != compare.LIMIT]
    assert (timed["temp_mib"] > 0).all()
    assert (timed["compile_s"] > 0).all()
    page = (out / "peers-cpu-1core.md").read_text("utf-8")
    assert page in shown
    assert "| RNN  | 2x5x3x4 | 2,5,3,4 |" in page


@pytest.mark.slow
def test_a_missing_framework_is_named_with_how_to_install_it(finished):
    _, shown = finished
    assert "haiku is left out (No module named haiku); pip install dm-haiku" in shown


def test_pictures_are_drawn_of_the_tables_that_are_there(tmp_path, capsys):
    shutil.copy(KEPT, tmp_path)
    out = tmp_path / "pictures"
    assert cli.main(["plot", "--results", str(tmp_path), "--out", str(out)]) == 0
    assert (out / "peers-speed.png").read_bytes()[:4] == b"\x89PNG"
    assert "peers-speed.png" in capsys.readouterr().out
    assert not (out / "scaling.png").exists()


def test_the_page_of_speed_shows_what_the_table_says():
    rows = [r for r in peers.BENCHMARK.read(KEPT) if r["best"] in (True, "True")]
    found = {(r["shape"], r["cell"], r["what"]): f"{r['ratio']:.2f}" for r in rows}
    order = [(cell, what) for cell in ("RNN", "GRU", "LSTM") for what in ("forward", "training")]
    page = (ROOT / "docs" / "speed.md").read_text("utf-8")
    shown = {line.split(":")[0][2:]: line for line in page.splitlines() if line.startswith("| S")}
    for shape in SHAPES:
        cells = [cell.strip() for cell in shown[shape].split("|")[2:-1]]
        assert cells == [found[shape, *key] for key in order]
