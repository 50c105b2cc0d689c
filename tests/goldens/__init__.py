"""Numbers of other libraries and of authors' code."""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def read(case: str, file: str = "cells.npz") -> dict[str, np.ndarray]:
    """Return the arrays of a case of `resets.npz`, or else of a file, by their names."""
    with np.load(FOLDER / "resets.npz") as records:
        if case in records.files:
            record = records[case]
            return {name: record[name] for name in record.dtype.names}
    with np.load(FOLDER / file) as arrays:
        return {
            name.partition("/")[2]: arrays[name]
            for name in arrays.files
            if name.startswith(f"{case}/")
        }


def names(file: str) -> set[str]:
    """Return the names of a file's arrays."""
    with np.load(FOLDER / file) as arrays:
        return set(arrays.files)
