"""The interface to Orbax: one uncompressed zarr folder per leaf, of a size known in advance.

The leaves are named "0", "1", ..., so they can be read with Orbax or zarr alone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import jax
import numpy as np

from seqcells import _check
from seqcells._checkpoint._files import BrokenError
from seqcells._types import Json

if TYPE_CHECKING:
    from orbax.checkpoint import Checkpointer

Shapes = dict[str, jax.ShapeDtypeStruct]


def import_orbax() -> ModuleType:
    """Import Orbax; the error says how to install it."""
    return _check.extra("orbax.checkpoint", "seqcells[sweep]")


def versions() -> dict[str, str]:
    """Return the versions of the packages that write a checkpoint."""
    modules = {"seqcells": "seqcells", "jax": "jax", "orbax": import_orbax().__name__}
    return {key: importlib.import_module(name).__version__ for key, name in modules.items()}


def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays; return when all are written."""
    ocp = import_orbax()
    with _checkpointer(ocp) as checkpointer:
        checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(arrays))
    if jax.process_index():  # Orbax writes NumPy arrays only in process 0
        for name, array in arrays.items():
            _write_zarr(folder / name, array)


def _write_zarr(folder: Path, array: np.ndarray) -> None:
    """Write an array like Orbax does: one uncompressed chunk of zarr version 2."""
    further = {"fill_value": None, "order": "C", "zarr_format": 2, "dimension_separator": "."}
    folder.mkdir()
    (folder / ".zarray").write_text(json.dumps(_header(array) | further), encoding="utf-8")
    (folder.parent / data_file(folder.name, array.shape)).write_bytes(array.tobytes())


def read(folder: Path, shapes: Shapes) -> dict[str, np.ndarray]:
    """Check that the arrays are no larger than `shapes`, then read them."""
    ocp = import_orbax()
    _check_sizes(folder, shapes)
    arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in shapes}
    try:
        with _checkpointer(ocp) as checkpointer:
            return checkpointer.restore(
                folder.absolute(), args=ocp.args.PyTreeRestore(restore_args=arguments)
            )
    except Exception as error:  # Orbax does not document which errors it raises
        raise BrokenError(f"Orbax cannot read it ({error})") from error


def room(shapes: Shapes) -> int:
    """Return an upper bound of the bytes of these arrays' files, with 1 KiB of metadata each."""
    data = sum(shape.size * shape.dtype.itemsize for shape in shapes.values())
    return data + (1 << 20) + (len(shapes) << 10)


def names(shapes: Shapes) -> set[str]:
    """Return the names of the files that Orbax may write for such arrays."""
    data = {data_file(name, one.shape) for name, one in shapes.items()}
    metadata = {"_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"}
    return data | metadata | {f"{name}/.zarray" for name in shapes}


def data_file(name: str, shape: tuple[int, ...]) -> str:
    """Return the name of the file with the bytes of an array, which is its only chunk."""
    return f"{name}/{'.'.join('0' * len(shape)) or '0'}"


def _header(one: jax.ShapeDtypeStruct | np.ndarray) -> Json:
    """Return the zarr metadata of one uncompressed chunk."""
    dtype = np.dtype(one.dtype)
    return {
        "shape": list(one.shape),
        "chunks": list(one.shape),
        "dtype": dtype.str if dtype.isbuiltin == 1 else dtype.name,
        "compressor": None,
        "filters": None,
    }


def _check_sizes(folder: Path, shapes: Shapes) -> None:
    """Raise unless every leaf is one uncompressed chunk of the expected shape and dtype."""
    for name, one in shapes.items():
        expected = _header(one)
        try:
            header = json.loads((folder / name / ".zarray").read_bytes())
            if {key: header[key] for key in expected} != expected:
                raise BrokenError(f"leaf {name} is stored as {header}, not as {expected}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BrokenError(f"leaf {name} cannot be read ({error})") from error


@contextlib.contextmanager
def _checkpointer(ocp: ModuleType) -> Iterator[Checkpointer]:
    """Open Orbax for this process only: every process has its own folder, so none must wait."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"seqcells-{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_compression=False, multiprocessing_options=options
    )
    logger = logging.getLogger("absl")
    logger.addFilter(_is_relevant)
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
            yield checkpointer
    finally:
        logger.removeFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drop Orbax's warning that there is nothing to merge, which is intended."""
    return "Skipping merge of OCDBT" not in str(record.msg)
