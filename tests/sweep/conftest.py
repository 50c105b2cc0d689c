"""Fixtures of the tests of sweeps."""

import pytest

from tests.support.sweeps import compile_once


@pytest.fixture
def once(monkeypatch):
    compile_once(monkeypatch)
