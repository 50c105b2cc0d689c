"""Fixtures of the tests of checkpoints, which need Orbax."""

import pytest

from seqcells._checkpoint import Checkpoints
from tests.support.checkpoints import CONFIG, TREE


@pytest.fixture(autouse=True)
def _skip_without_orbax():
    pytest.importorskip("orbax.checkpoint")


@pytest.fixture
def saved(tmp_path):
    """Two generations."""
    checkpoints = Checkpoints(tmp_path / "run", CONFIG)
    for step in (1, 2):
        checkpoints.save(step, TREE, {"best": step})
    return checkpoints
