"""Reading IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an array from an IDX file, compressed by gzip or not.

    The format (LeCun's, of MNIST): two zero bytes, one for the dtype, one for the number of axes,
    then the size of each axis and the numbers, all big-endian.

    Args:
        path: the file. Compression is recognised by its bytes, not its name.

    Returns:
        The array, with the dtype and shape of the file, in native byte order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an IDX file, is cut short or is too long.
    """
    data = _read(Path(path))
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES:
        raise ValueError(
            f"path: expected an IDX file, which begins with 00 00 and a dtype (08 to 0e), got "
            f"{data[:4].hex(' ') or 'no bytes'} in {str(path)!r}; is this the right file?"
        )
    dtype, start = np.dtype(_DTYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(
            f"path: expected a header of {start} bytes, got {len(data)} bytes in {str(path)!r}; "
            "the file is cut short: download it again"
        )
    shape = tuple(np.frombuffer(data, ">u4", data[3], offset=4).tolist())
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - start != expected:
        wrong = "cut short" if len(data) - start < expected else "too long"
        raise ValueError(
            f"path: expected {expected} bytes after the header, for {dtype.name}{list(shape)}, got "
            f"{len(data) - start} in {str(path)!r}; the file is {wrong}: download it again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _read(path: Path) -> bytes:
    """Return the bytes of a file, decompressed."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise FileNotFoundError(f"path: expected an IDX file at {str(path)!r}, got {got}")
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"path: expected a complete gzip file, got {error} in {str(path)!r}; download it again"
        ) from None
