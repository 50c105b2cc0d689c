"""Executors and functions that cannot work are refused before anything runs."""

import functools
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from seqcells import sweep
from tests.support.executors import Here
from tests.support.sweeps import SWEEP, make, space

FEW = space(lr=[0.1], seeds=1)


def forks():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


REFUSED = [
    ({"executor": 3}, TypeError, r"executor: expected an object with submit\(f, \*args\), got 3"),
    ({"executor": forks}, ValueError, "executor: expected a pool that spawns .* JAX hangs; write"),
    ({"executor": Here, "out": None}, ValueError, "out: expected a folder that all workers see"),
    ({"executor": Here, "in_flight": 0}, ValueError, "in_flight: expected an int >= 1, got 0"),
    ({"executor": Here, "make": lambda: make()}, TypeError, "make: .* pickle can send .*lambda"),
    (
        {"executor": Here, "make": functools.partial(make, traced=lambda f: f)},
        TypeError,
        "make: expected a value that pickle can send",
    ),
]


@pytest.mark.parametrize(("changed", "error", "message"), REFUSED)
def test_what_cannot_work_is_refused_before_anything_runs(tmp_path, changed, error, message):
    executor = changed["executor"]
    given = {"make": make, "out": tmp_path / "out", "steps": 20, "segment": 10} | changed
    given["executor"] = executor() if callable(executor) else executor
    with pytest.raises(error, match=message):
        sweep.run(space=FEW, **given)
    assert not (tmp_path / "out").exists()


def test_a_function_typed_into_a_notebook_is_refused_for_a_pool(tmp_path, monkeypatch):
    typed = functools.partial(make, 2)
    monkeypatch.setattr(make, "__module__", "__main__")
    main = type("Main", (), {"make": make})
    monkeypatch.setitem(sys.modules, "__main__", main)
    with (
        sweep.processes(1) as pool,
        pytest.raises(TypeError, match=r"make: .* of an interactive session; write it"),
    ):
        sweep.run(typed, FEW, out=tmp_path, executor=pool, **SWEEP)
