"""Files that are whole or not there, in folders that can be written to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from experiments.lab.settings import BadInput
from seqcells.sweep._store import write_whole as write_whole


def writable(out: Path) -> Path:
    """Make the folder; raise an error that names it if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadInput(
            f"out: expected a folder to write to, got {out} ({error.strerror}); "
            "give another with --out"
        ) from None
    return out
