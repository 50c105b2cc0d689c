"""Runs of `python -m benchmarks` that several files look at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def python():
    """Run a command as a user does, in a process of its own, which it pins to cores."""

    def run(*arguments, **env):
        line = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
        return subprocess.run(
            line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
            env=os.environ | env,
        )  # fmt: skip

    return run
