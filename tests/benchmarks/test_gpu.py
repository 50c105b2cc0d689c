"""`gpu`, as far as a CPU can show it: ways are checked, cases are listed and skipped."""

import dataclasses
import subprocess
import time
from contextlib import nullcontext

import pytest

from benchmarks import __main__ as cli
from benchmarks.harness import tables
from benchmarks.harness.problem import Shape
from benchmarks.suites import gpu
from benchmarks.suites.gpu import check, ways
from experiments.lab import BadInput
from tests.benchmarks.test_peers import ABOUT, RESULTS, ROOT


@pytest.mark.slow
@pytest.mark.parametrize("what", ["forward", "training"])
@pytest.mark.parametrize("dtype", check.DTYPES)
def test_every_way_on_a_gpu_is_checked_against_float64(what, dtype, monkeypatch):
    about = ABOUT | dict.fromkeys(gpu.ABOUT, "?")
    batch = 3 if dtype == "float32" else check.CHECKED + 1
    case = check.Case(dtype, what, Shape("", batch, 9, 5, 5))
    rows = check.measure(case, 0.01, lambda _: None, interpret=True)
    assert {row["contestant"]: row["status"] for row in rows} == {
        name: "ok"
        for name in (
            *(ways.NNX, "scan by hand", "lean scan", "lean scan, one graph"),
            *(f"{type(k).__name__} {k.precision}" for k in ways.KERNELS[dtype]),
            ways.PRODUCTS,
        )
    }
    assert all([*row, *gpu.ABOUT] == gpu.COLUMNS and row["rounds"] >= 5 for row in rows)
    page = gpu.page([row | about for row in rows])
    assert f"## {dtype}, {what}: microseconds a step" in page
    assert "time over that of torch" not in page  # which is not installed

    right = ways.by_hand
    monkeypatch.setattr(ways, "by_hand", lambda params, xs: 0.9 * right(params, xs))
    rows = check.measure(case, 0.01, lambda _: None, interpret=True)
    assert all("differs from float64" in row["status"] for row in rows[2:-1])
    assert "## Not timed" in gpu.page([row | about for row in rows])


def test_cases_on_a_gpu_begin_with_the_most_telling_and_fit_its_memory():
    found = list(check.cases())
    assert found[0] == check.Case("bfloat16", "forward", Shape("16x1024x128", 16, 1024, 128, 128))
    assert len(set(found)) == len(found)
    assert {case.shape.T for case in found} == set(check.SIZES["T"])
    assert max(case.shape.T * case.shape.B * case.shape.H for case in found) == check.ENTRIES


@pytest.mark.parametrize("installed", [False, True])
def test_a_case_that_lacks_cudnn_is_measured_again_once_it_is_installed(installed, monkeypatch):
    monkeypatch.setattr(gpu, "has_cudnn", lambda: installed)
    with_it, without = ({"dtype": d, "what": "w", "B": 1, "T": 2, "H": 3} for d in check.DTYPES)
    rows = [
        *(with_it | {"contestant": name} for name in (ways.NNX, ways.CUDNN, ways.PRODUCTS)),
        *(without | {"contestant": name} for name in (ways.NNX, ways.PRODUCTS)),
    ]
    both = {tuple(one.values()) for one in (with_it, without)}
    assert gpu.finished(rows) == ({tuple(with_it.values())} if installed else both)


def test_cases_that_the_table_has_are_skipped_unless_measured_again(tmp_path):
    settings = gpu.Settings(out=tmp_path)
    first, *others = (case.group for case in check.cases())
    columns = [*gpu.COLUMNS, *ABOUT]
    row = dict.fromkeys(columns, 1) | first | {"contestant": ways.PRODUCTS}
    tables.write(gpu.BENCHMARK.path(settings), [row], columns)
    assert len(list(gpu.groups(settings))) == len(others)
    assert len(list(gpu.groups(dataclasses.replace(settings, again=True)))) == len(others) + 1


@pytest.mark.parametrize("failed", [False, True])
def test_failing_device_tests_are_reported_once_the_cases_are_measured(failed, monkeypatch):
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # which the session leaves alone
    monkeypatch.setattr(gpu, "check_gpu", lambda: None)
    result = subprocess.CompletedProcess([], int(failed))
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: result)
    measured = []
    expected = pytest.raises(BadInput, match="tests: expected") if failed else nullcontext()
    with expected, gpu.Settings(minutes=1).session() as end:
        measured.append(end - time.monotonic())
    assert measured == [pytest.approx(60, abs=5)]


def test_without_a_gpu_it_says_so_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setattr(gpu.subprocess, "run", pytest.fail)
    assert cli.main(["gpu"]) == 2
    assert "expected an NVIDIA GPU, got a cpu" in capsys.readouterr().err


def test_the_readme_says_what_was_measured():
    table = gpu.BENCHMARK.read(RESULTS / "gpu-nvidia-h200.csv")
    case = ["float32", "training", 16, 1024, 128]
    some = [row for row in table if [row[key] for key in check.KEYS] == case]
    us = {row["contestant"]: row["us_step"] for row in some}
    said = f"| {us[ways.NNX]:.0f} µs per time step | {us['lean scan']:.1f} µs; with "
    said += f"`engine=sc.PallasTriton()` {us['PallasTriton tf32']:.1f} µs |"
    assert said in (ROOT / "README.md").read_text("utf-8")
