"""Numbers of other libraries and of authors' code."""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def read(case: str) -> dict[str, np.ndarray]:
    """Return the arrays of a case of `cells.npz` or `resets.npz` by their names."""
    with np.load(FOLDER / "resets.npz") as records:
        if case in records.files:
            record = records[case]
            return {name: record[name] for name in record.dtype.names}
    with np.load(FOLDER / "cells.npz") as arrays:
        return {
            name.partition("/")[2]: arrays[name]
            for name in arrays.files
            if name.startswith(f"{case}/")
        }
