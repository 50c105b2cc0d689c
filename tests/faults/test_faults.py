"""Programs of users that showed a fault; each exits with 0 now that the fault is mended.

The laws that cover the whole kind of a fault are in the tests of the package concerned.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = sorted(path for path in HERE.glob("*/*") if path.name.startswith(("case_", "guide_")))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_fault_is_mended(program):
    for peer in ("haiku", "keras"):
        if peer in program.read_text("utf-8") and find_spec(peer) is None:
            pytest.skip(f"{peer} is not installed")
    command = ["bash", program] if program.suffix == ".sh" else [sys.executable, program]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PY": sys.executable, "XLA_FLAGS": ""}
    result = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, encoding="utf-8", timeout=300
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
