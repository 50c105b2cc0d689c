"""One mutant in a copy of the tree, and what its tests say."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from scripts.mutants.table import ROOT, Mutant

LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", ".venv", ".nox", "build", "dist", "runs", "artefacts", "_build", "parts"),
    *(".hypothesis", ".pytest_cache", ".ruff_cache", ".import_linter_cache", "*.egg-info"),
)
SECONDS = 900  # seconds after which the tests of a mutant count as hanging
KILLED = ("killed", "hung")  # a test fails, or does not end


class Outcome(NamedTuple):
    """The outcome of a mutant."""

    digest: str  # digest of everything that it depends on
    status: str  # one of KILLED, "survived", or "broken" if its tests cannot be run
    by: str  # the first test that failed, or the error
    seconds: float


def copy(folder: Path, root: Path = ROOT) -> Path:
    """Copy the tree into a folder."""
    return shutil.copytree(root, folder / "tree", ignore=LEFT_OUT, symlinks=True)


def digest(mutant: Mutant, root: Path = ROOT) -> str:
    """Return a digest of a mutant, the library, its tests and their shared code."""
    files = {root / test.partition("::")[0] for test in mutant.tests}
    for folder in ("seqcells", "tests/support"):
        files |= set((root / folder).rglob("*.py"))
    files |= {root / "tests" / "conftest.py"}
    text = [repr(mutant).encode(), *(path.read_bytes() for path in sorted(files) if path.exists())]
    return hashlib.sha256(b"\0".join(text)).hexdigest()[:16]


def run(tree: Path, tests: tuple[str, ...], seconds: float | None = SECONDS) -> tuple[str, str]:
    """Run tests in a tree until one fails; return the status, and the test or the error."""
    alone = ["-n", "0"] if tests else []
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow", *alone]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    env = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=env,
            capture_output=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hung", f"after {seconds} s"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if done.returncode == 0:
        return "survived", ""
    if done.returncode == 1 and failed:
        return "killed", failed[1]
    return "broken", (done.stdout + done.stderr)[-300:].strip()


def attempt(mutant: Mutant, tree: Path, *, all_tests: bool = False) -> Outcome:
    """Try a mutant in a copy of the tree, then restore the copy."""
    path, start = tree / mutant.file, time.monotonic()
    source = path.read_text("utf-8")
    try:
        path.write_text(mutant.change(source), encoding="utf-8")
        status, by = run(tree, mutant.tests)
        if status == "survived" and all_tests:
            status, by = run(tree, ())
    finally:
        path.write_text(source, encoding="utf-8")
    return Outcome(digest(mutant), status, by, round(time.monotonic() - start, 1))
