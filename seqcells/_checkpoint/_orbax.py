"""All that is known of Orbax: one uncompressed zarr folder a leaf, so that its size has no secrets.

The leaves are named "0", "1", ...; anybody can read them with Orbax, or with zarr, alone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from seqcells._checkpoint._files import BrokenError

Shapes = dict[str, jax.ShapeDtypeStruct]


def import_orbax() -> ModuleType:
    """Import Orbax, or say how to get it."""
    try:
        import orbax.checkpoint
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "checkpoints need the package orbax-checkpoint: pip install 'seqcells[sweep]'"
        ) from None
    return orbax.checkpoint


def versions() -> dict[str, str]:
    """Of what writes a checkpoint."""
    modules = {"seqcells": "seqcells", "jax": "jax", "orbax": import_orbax().__name__}
    return {key: importlib.import_module(name).__version__ for key, name in modules.items()}


def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays, and return when it is done."""
    ocp = import_orbax()
    with _checkpointer(ocp) as checkpointer:
        checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(arrays))


def read(folder: Path, shapes: Shapes) -> dict[str, np.ndarray]:
    """Read the arrays, having seen that there is no more to read than `shapes` says."""
    ocp = import_orbax()
    _check_sizes(folder, shapes)
    arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in shapes}
    try:
        with _checkpointer(ocp) as checkpointer:
            return checkpointer.restore(
                folder.absolute(), args=ocp.args.PyTreeRestore(restore_args=arguments)
            )
    except Exception as error:  # of what kind is nowhere said
        raise BrokenError(f"Orbax cannot read it ({error})") from error


def room(shapes: Shapes) -> int:
    """Bytes that the files of such arrays take, at most; what is said about one, 1 KiB."""
    numbers = sum(one.size * one.dtype.itemsize for one in shapes.values())
    return numbers + (1 << 20) + (len(shapes) << 10)


def names(shapes: Shapes) -> set[str]:
    """The files that Orbax may have written for such arrays."""
    chunks = {f"{name}/{'.'.join('0' * len(one.shape)) or '0'}" for name, one in shapes.items()}
    about = {"_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"}
    return chunks | about | {f"{name}/.zarray" for name in shapes}


def _check_sizes(folder: Path, shapes: Shapes) -> None:
    """Raise unless every leaf is one uncompressed chunk of the shape and dtype that is wanted."""
    for name, one in shapes.items():
        dtype = np.dtype(one.dtype)
        wanted = {
            "shape": list(one.shape),
            "chunks": list(one.shape),
            "dtype": dtype.str if dtype.isbuiltin == 1 else dtype.name,
            "compressor": None,
            "filters": None,
        }
        try:
            said = json.loads((folder / name / ".zarray").read_bytes())
            if {key: said[key] for key in wanted} != wanted:
                raise BrokenError(f"leaf {name} is stored as {said}, not as {wanted}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BrokenError(f"leaf {name} cannot be read ({error})") from error


@contextlib.contextmanager
def _checkpointer(ocp: ModuleType) -> Iterator[Any]:
    """Orbax for this process alone: it waits for no other, as every one has its own folder."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"seqcells-{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_compression=False, multiprocessing_options=options
    )
    logger = logging.getLogger("absl")
    logger.addFilter(_worth_saying)
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
            yield checkpointer
    finally:
        logger.removeFilter(_worth_saying)


def _worth_saying(record: logging.LogRecord) -> bool:
    """Whether it is not Orbax's warning that there is nothing to merge, which is so by choice."""
    return "Skipping merge of OCDBT" not in str(record.msg)
