"""Fixtures of the tests of sweeps."""

import pytest

from seqcells.sweep import _driver, _executor, _worker
from tests.support.sweeps import compile_once, run


@pytest.fixture
def once(monkeypatch):
    compile_once(monkeypatch)


@pytest.fixture
def quick(monkeypatch):
    """No pauses, and programs that belong to one test."""
    monkeypatch.setattr(_executor, "PAUSE", 0)
    monkeypatch.setattr(_executor, "LOOK", 0)
    monkeypatch.setattr(_driver, "LOOK", 0.01)
    monkeypatch.setattr(_worker, "LOOK", 0)
    monkeypatch.setattr(_executor, "GRACE", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep in one process."""
    return run(tmp_path_factory.mktemp("whole"))
