"""The folder of a run: it holds one kind of result, and only one process writes to it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from experiments.lab.files import read_about, writable
from experiments.lab.settings import BadInput
from seqcells._checkpoint._lock import LOCK
from seqcells._checkpoint._lock import hold as lock

SWEEP, BENCHMARKS, CHAOS = "sweep", "tables of benchmarks", "trials of scripts.chaos"
OTHER = "other files"
_NAMES = {BENCHMARKS: r".+-.+\.(csv|md)|.+\.png", CHAOS: r"row-\d+(\.jsonl)?"}  # of all files there
_OF_SWEEPS, _OF_STUDIES = r"sweep\.json|batches|jobs", "parts"


def study(name: str) -> str:
    """Return the kind of a study's folder."""
    return f"study {name}"


def content(out: Path) -> str:
    """Return what a folder holds; "" if it is empty or does not exist."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    names = [name for name in names if name != LOCK and not name.startswith(".")]
    about = read_about(out)
    if not names:
        return ""
    if "probe" in about or any(re.fullmatch(_OF_SWEEPS, name) for name in names):
        return f"{SWEEP} of {about['probe']}" if "probe" in about else SWEEP
    if "unfinished" in about or _OF_STUDIES in names:
        return study(about.get("study", "")).strip()
    for kind, pattern in _NAMES.items():
        if all(re.fullmatch(pattern, name) for name in names):
            return kind
    return OTHER


def check(out: Path, kind: str, *, reads: bool = False) -> None:
    """Raise `BadInput` unless a folder is empty, does not exist, or holds this.

    Args:
        out: the folder.
        kind: its expected content, such as "study horizon" or "sweep of copy".
        reads: whether it is only read, so that it may hold unknown files.
    """
    known = ("", kind, kind.split(" ")[0], *[OTHER] * reads)  # older runs have no name
    if (found := content(out)) not in known:
        raise BadInput(
            f"out: expected a new folder, or one that holds the {kind}, got {out}, which holds "
            f"{'the ' * (found != OTHER)}{found}; give another with --out"
        )


@contextlib.contextmanager
def hold(out: Path, kind: str) -> Iterator[None]:
    """Make a folder and lock it, so that no other process writes to it.

    Raises:
        BadInput: it holds something else, or cannot be written to.
        RunLocked: another process has locked it.
    """
    check(out, kind)
    with lock(writable(out)):
        yield
