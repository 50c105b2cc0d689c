"""Benchmarks: statistics, tables, that contestants agree, what a run leaves behind."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import jax
import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as cli
from benchmarks import pages
from benchmarks.harness import machine, programs, tables, timing
from benchmarks.harness.contestants import OURS, PEERS, Built, Naive
from benchmarks.harness.problem import CELLS, SHAPES, Shape, draw_inputs, parse_shape
from benchmarks.suites import configurations, flags, gpu, scaling, sweep
from benchmarks.suites.peers import compare
from experiments import lab
from experiments.lab import BadInput, markdown

ROOT = Path(__file__).parents[2]
TINY = Shape("tiny", 2, 5, 3, 4)


def python(*arguments, **env):
    """Run a command as a user does: it pins its process, so not in this one."""
    line = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | env,
    )  # fmt: skip


def test_a_spread_is_the_median_and_the_quartiles():
    assert timing.spread([5, 1, 4, 2, 30]) == (4, 2, 5)


def test_a_ratio_is_taken_round_by_round():
    times = {"ours": [1, 10, 1], "theirs": [2, 30, 4]}  # of medians it would be 4
    assert timing.ratio(times, "theirs", "ours") == (3, 2.5, 3.5)


def test_the_fastest_has_the_least_median_not_the_luckiest_round():
    times = {"steady": [3, 3, 3], "lucky": [1, 4, 4], "ours": [2, 2, 2]}
    assert timing.fastest(times, ["lucky", "steady", "untimed"]) == "steady"
    assert timing.fastest(times, ["untimed"]) is None


def test_a_slope_is_the_exponent():
    assert timing.slope([1, 2, 8], [3, 12, 192]) == pytest.approx(2)


class Clock:
    """A clock that calls move on."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, cost):
        def run():
            self.now += cost
            self.order += [name] * (self.order[-1:] != [name])

        return run


def test_rounds_turn_their_order_and_last_as_long_as_they_are_told():
    clock = Clock()
    calls = {name: clock.call(name, cost) for name, cost in (("a", 0.5), ("b", 1.0), ("c", 0.001))}
    times = timing.interleave(calls, 0.1, clock=clock)
    assert {len(rounds) for rounds in times.values()} == {timing.ROUNDS}
    assert {k: timing.spread(v).median for k, v in times.items()} == pytest.approx(
        {"a": 0.5, "b": 1.0, "c": 0.001}
    )
    assert "".join(clock.order) == "abc" + "abc" + "bca" + "cab" + "abc" + "bca"
    clock = Clock()
    times = timing.interleave({"c": clock.call("c", 0.001)}, 1.0, clock=clock)
    assert len(times["c"]) == pytest.approx(1.0 / timing.FLOOR, abs=1)  # 20 calls a round


def test_a_table_is_replaced_group_by_group(tmp_path):
    def rows(shape, ms, names="ab"):
        return [
            {"cell": "GRU", "shape": shape, "who": n, "ms": ms, "commit": "12e456"} for n in names
        ]

    path, columns = tmp_path / "t.csv", ["cell", "shape", "who", "ms", "commit"]
    tables.write(path, [*rows("S1", 1.0), *rows("S2", 2.0), *rows("S3", 3.0)], columns)
    new = [*rows("S2", 5.0, "a"), *rows("S4", 4.0)]
    merged = tables.replace_groups(tables.read(path, columns), new, ["cell", "shape"])
    tables.write(path, merged, columns)
    back = tables.read(path, columns)
    assert back == [*rows("S1", 1.0), *rows("S2", 5.0, "a"), *rows("S3", 3.0), *rows("S4", 4.0)]


def test_a_file_that_is_no_such_table_is_named(tmp_path):
    assert tables.read(tmp_path / "none.csv", ["ms"]) == []
    for name, text in (("empty.csv", ""), ("other.csv", "cell\nGRU\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadInput, match=rf"{name}: expected .*; move it away"):
            tables.read(tmp_path / name, ["cell", "ms"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1.00"), (1234.5, "1234"), (float("nan"), "-"), (0, "0")],
)
def test_numbers_are_written_with_digits_that_count(value, text):
    assert tables.digits(value) == text


def test_a_markdown_table_is_aligned():
    lines = markdown(["who", "ms"], [["naive", "1.5"], ["b", "-"]], texts=1).splitlines()
    assert lines == ["| who   |  ms |", "| ----- | --: |", "| naive | 1.5 |", "| b     |   - |"]


def test_the_limit_has_the_multiplications_of_the_shape():
    for shape in (TINY, SHAPES["S4"]):
        rows, width = shape.T * shape.B, 3 * shape.H
        left, right = jax.eval_shape(lambda s=shape, r=rows, w=width: programs._factors(r, s.D, w))
        blocks, height, size = left.shape
        assert rows <= blocks * height < rows + blocks
        assert (size, *right.shape) == (shape.D, shape.D, width)
        assert height * width <= programs.BLOCK


def test_the_limit_multiplies():
    left, right = programs._factors(6, 3, programs.BLOCK // 2)
    assert left.shape[0] == 3
    np.testing.assert_allclose(
        programs._product(left, right[:, :4]), np.asarray(left)[-1] @ right[:, :4], rtol=1e-5
    )


def test_the_command_line_knows_every_shape_cell_and_peer():
    assert get_args(cli.ShapeName) == tuple(SHAPES)
    assert get_args(cli.CellName) == tuple(CELLS) == tuple(programs.GATES)
    assert get_args(cli.PeerName) == tuple(PEERS)


def imported(peer):
    """Import a framework, or skip; what its import warns of is not ours."""
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
    if (name, kind) == ("equinox", "RNN"):
        assert entrant is None
        return
    assert entrant.status == "ok"
    assert entrant.twin.hidden_size == TINY.H
    assert (entrant.twin != CELLS[kind](TINY.H)) == (
        (name, kind)
        in [("haiku", "RNN"), *((n, "GRU") for n in ("linen", "nnx", "haiku", "equinox"))]
    )


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
    ("peer", "what", "told"),
    [(Wrong(), "forward", "outputs differ"), (WrongGradient(), "training", "gradients differ")],
)
def test_a_peer_that_disagrees_is_told_and_not_timed(peer, what, told, monkeypatch):
    monkeypatch.setitem(PEERS, "naive", peer)
    rows = compare.measure("RNN", TINY, [what], ["naive"], 1e-3, lambda _: None)
    ours, theirs, limit = rows
    assert (ours["status"], limit["status"]) == ("ok", "ok")
    assert theirs["status"].startswith(told)
    assert ours["ms"] > 0
    assert np.isnan(theirs["ms"])
    assert not theirs["best"]
    assert f"naive, RNN at tiny, {what}: {told}" in pages.peers(rows)


@pytest.mark.parametrize("light", [False, True])
def test_what_does_less_work_is_nobodys_best(light, monkeypatch):
    monkeypatch.setattr(Naive, "lighter", {"GRU": "less"} if light else {})
    peers = OURS, PEERS["naive"]
    entrants = [compare.Entrant(p, CELLS["GRU"](4), Built(len, None), None, 0.0) for p in peers]
    times = {name: [1.0] * 5 for name in ("seqcells", "naive", compare.LIMIT)}
    made = {name: programs.Program(lambda: None, 1.0, 1.0) for name in times}
    rows = compare._rows("GRU", entrants, dict.fromkeys(times, "ok"), made, times)
    assert [row["best"] for row in rows] == [False, not light, False]
    assert rows[1]["computes"] == ("less" if light else "GRU(H)")


def test_nan_is_not_the_same():
    assert compare.verdict("outputs", float("nan")) != "ok"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run as a user makes it, where Haiku is not installed."""
    away, out = (tmp_path_factory.mktemp(name) for name in ("away", "results"))
    out = out / "[b] results [/b]"
    (away / "haiku.py").write_text('raise ModuleNotFoundError("No module named haiku")')
    options = ["--cells", "RNN", "--peers", "naive", "linen", "haiku"]
    line = ["peers", "--shape", "2,5,3,4", *options, "--seconds", "0.01", "--out", out]
    done = python(*line, PYTHONPATH=str(away))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.slow
def test_a_run_leaves_a_row_a_contestant_and_a_page(finished):
    out, told = finished
    frame = pd.read_csv(out / "peers-cpu-1core.csv")
    assert list(frame) == compare.COLUMNS
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
    page = (out / "peers-cpu-1core.md").read_text()
    assert page in told
    assert "| RNN  | 2x5x3x4 | 2,5,3,4 |" in page


@pytest.mark.slow
def test_a_missing_framework_is_told_with_how_to_install_it(finished):
    _, told = finished
    assert "haiku is left out (No module named haiku); pip install dm-haiku" in told


def test_pictures_are_drawn_of_the_tables(finished, tmp_path, capsys):
    results, _ = finished
    assert cli.main(["plot", "--results", str(results), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "peers-speed.png").read_bytes()[:4] == b"\x89PNG"
    assert "peers-speed.png" in capsys.readouterr().out
    assert not (tmp_path / "scaling.png").exists()


def test_collectives_are_found_in_a_program():
    text = "%a = f32[2] all-reduce(%b)\n%c = all-gather-start(%d)\n%e = f32[2] add(%a, %c)"
    assert sweep.collectives(text) == ["all-gather", "all-reduce"]
    assert sweep.collectives("%e = f32[2] add(%a, %c)") == []


@pytest.mark.slow
def test_every_way_to_train_configurations_ends_the_same():
    ways = configurations.contestants(3, Shape("small", 2, 5, 3, 4), 4)
    losses = [call() for call in ways.values()]
    assert len(ways) == 3
    assert len(set(losses[0])) == 3
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-5)
    assert len(configurations.contestants(17, Shape("small", 2, 5, 3, 4), 4)) == 2


@pytest.mark.slow
@pytest.mark.skipif(lab.cores() < 2, reason="takes a core a device")
def test_a_sweep_is_spread_over_devices(tmp_path):
    line = ["sweep", "--members", "2", "--hidden", "4", "--devices", "2", "--seconds", "0.01"]
    done = python(*line, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = tables.read(tmp_path / "sweep-cpu-2cores.csv", sweep.COLUMNS)
    ways = [f"{name} {way}" for name in ("seqcells", "naive") for way in ("vmapped", "looped")]
    assert [row["contestant"] for row in rows] == [*ways, sweep.SHARDED]
    assert all(row["ms"] > 0 for row in rows)
    assert "seqcells sharded" in (tmp_path / "sweep-cpu-2cores.md").read_text()


def test_the_page_of_speed_shows_what_the_table_says():
    path = ROOT / "benchmarks" / "results" / "peers-cpu-1core.csv"
    rows = [r for r in tables.read(path, compare.COLUMNS) if r["best"] in (True, "True")]
    found = {(r["shape"], r["cell"], r["what"]): f"{r['ratio']:.2f}" for r in rows}
    order = [(cell, what) for cell in ("RNN", "GRU", "LSTM") for what in ("forward", "training")]
    page = (ROOT / "docs" / "speed.md").read_text()
    shown = {line.split(":")[0][2:]: line for line in page.splitlines() if line.startswith("| S")}
    for shape in SHAPES:
        cells = [cell.strip() for cell in shown[shape].split("|")[2:-1]]
        assert cells == [found[shape, *key] for key in order]


@pytest.mark.slow
def test_flags_say_the_same_and_are_timed_beside_none(tmp_path):
    shape = Shape("tiny", 3, 6, 2, 4)
    drawn = flags.draw(shape)
    lengths, mask = drawn["lengths"]["lengths"], drawn["mask"]["mask"]
    np.testing.assert_array_equal(mask.sum(0), lengths)
    assert ((lengths >= 3) & (lengths <= 6)).all()
    rows = flags.measure("RNN", shape, "training", 0.01)
    assert [row["contestant"] for row in rows] == ["none", "lengths", "mask", "resets"]
    assert rows[0]["ratio"] == 1
    assert all(row["ms"] > 0 for row in rows)
    page = pages.flags(rows)
    assert "## Training, time over that without flags" in page
    assert "| RNN  | tiny  | 3,6,2,4 |" in page


def test_scaling_tells_slopes_and_is_drawn(tmp_path):
    rows = [
        {"axis": "T", "value": t, "B": 1, "T": t, "I": 2, "H": 3, "contestant": who}
        | {"ms": t * k, "ms_low": t * k, "ms_high": t * k}
        | dict.fromkeys(scaling.COLUMNS[10:], 1)
        for t in (64, 128, 256)
        for who, k in (("seqcells", 1.0), ("naive", 2.0))
    ]
    page = pages.scaling(rows)
    assert "- naive grows as T^1.00, at the end as T^1.00" in page
    tables.write(tmp_path / "scaling-cpu-1core.csv", rows, scaling.COLUMNS)
    assert cli.main(["plot", "--results", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["peers", "--shape", "2,5,3"], ["shape: expected B,T,I,H", "'2,5,3'"]),
        (["peers", "--shape", "2,5,3,0"], ["shape: expected B,T,I,H", "'2,5,3,0'"]),
        (["peers", "--seconds", "0"], ["seconds: expected", "got 0"]),
        (["peers", "--cores", "0"], ["cores: expected", "at least 1, got 0"]),
        (["peers", "--cores", "99999"], ["cores: expected at most", "got 99999"]),
        (["sweep", "--members", "3", "--devices", "2"], ["members: expected multiples of the 2"]),
        (["sweep", "--hidden", "0"], ["hidden: expected", "got 0"]),
        (["scaling", "--most", "3"], ["most: expected", "got 3"]),
        (["plot", "--results", "/nowhere"], ["results: expected peers-cpu-1core.csv in /nowhere"]),
    ],
)
def test_bad_input_is_named_before_anything_is_measured(
    arguments, told, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(cli, "run", lambda *_: pytest.fail("it measured"))
    before = lab.cores()
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert all(word in shown.err for word in told), shown.err
    assert lab.cores() == before
    assert not list(tmp_path.iterdir())


def test_a_shape_is_named_by_its_sizes():
    assert parse_shape(" 2, 5,3,4") == Shape("2x5x3x4", 2, 5, 3, 4)


@pytest.mark.parametrize("what", [pytest.param("forward", marks=pytest.mark.slow), "training"])
@pytest.mark.parametrize("dtype", gpu.DTYPES)
def test_every_way_on_a_gpu_is_checked_against_float64(what, dtype, monkeypatch):
    batch = 3 if dtype == "float32" else gpu.CHECKED + 1
    case = gpu.Case(dtype, what, Shape("", batch, 9, 5, 5))
    about = {name: "?" for name in ("device", "driver", *machine.COLUMNS)}
    rows = gpu.measure(case, 0.01, about, lambda _: None, interpret=True)
    assert {row["contestant"]: row["status"] for row in rows} == {
        name: "ok"
        for name in (
            *(gpu.NNX, "scan by hand", "lean scan", "lean scan, one graph"),
            *(f"{type(k).__name__} {k.precision}" for k in gpu.KERNELS[dtype]),
            gpu.FLOOR,
        )
    }
    assert all(set(row) == set(gpu.COLUMNS) and row["rounds"] >= 5 for row in rows)
    page = pages.gpu(rows)
    assert f"## {dtype}, {what}: microseconds a step" in page
    assert "time over that of torch" not in page  # which was not there

    right = gpu.by_hand
    monkeypatch.setattr(gpu, "by_hand", lambda params, xs: 0.9 * right(params, xs))
    rows = gpu.measure(case, 0.01, about, lambda _: None, interpret=True)
    assert all("differs from float64" in row["status"] for row in rows[2:-1])
    assert "## Not timed" in pages.gpu(rows)


def test_cases_on_a_gpu_begin_with_the_most_telling_and_fit_its_memory():
    found = list(gpu.cases())
    assert found[0] == gpu.Case("bfloat16", "forward", Shape("16x1024x128", 16, 1024, 128, 128))
    assert len(set(found)) == len(found)
    assert {case.shape.T for case in found} == set(gpu.SIZES["T"])
    assert max(case.shape.T * case.shape.B * case.shape.H for case in found) == gpu.ENTRIES


@pytest.mark.parametrize("there", [False, True])
def test_a_case_that_lacks_cudnn_is_measured_again_where_it_is_there(there, monkeypatch):
    monkeypatch.setattr(gpu, "has_cudnn", lambda: there)
    with_it, without = ({"dtype": d, "what": "w", "B": 1, "T": 2, "H": 3} for d in gpu.DTYPES)
    rows = [
        *(with_it | {"contestant": name} for name in (gpu.NNX, gpu.CUDNN, gpu.FLOOR)),
        *(without | {"contestant": name} for name in (gpu.NNX, gpu.FLOOR)),
    ]
    both = {tuple(one.values()) for one in (with_it, without)}
    assert gpu.seen(rows) == ({tuple(with_it.values())} if there else both)


def test_without_a_gpu_it_says_so_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setattr(cli.subprocess, "run", pytest.fail)
    assert cli.main(["gpu"]) == 1
    assert "expected an NVIDIA GPU, and this is a cpu" in capsys.readouterr().err
