"""A cell or layer and its parameters in one safetensors file.

The header holds the configuration as JSON, and the name, shape and dtype of every array, so any
reader of safetensors can open the file. Loading runs no code from the file: classes and functions
are looked up by name among the library's own.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model, known_shapes
from seqcells._static import from_json, to_json
from seqcells._types import Params
from seqcells.interop import _arrays, _walk
from seqcells.interop._arrays import Arrays


class Row(TypedDict):
    """One array in the form of safetensors."""

    dtype: str
    shape: list[int]
    data: bytes


FORMAT = "seqcells-1"
_WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}


def save(path: str | os.PathLike[str], model: Model, params: Params) -> None:
    """Write a cell or layer and its parameters to a file.

    The file is replaced atomically: an interrupted call leaves the old one.

    Args:
        path: the file to write; its folder must exist.
        model: any cell or layer made of this library's classes and initialisers.
        params: its parameters.

    Raises:
        ModuleNotFoundError: if the package `safetensors` (the extra `interop`) is missing.
        ValueError: if the configuration contains your own function or class, or `params` do not
            belong to this cell or layer, or are narrower than 16 bits.

    >>> import jax, tempfile, pathlib, seqcells as sc
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "gru.safetensors"
    >>> cell = sc.GRU(4)
    >>> sc.interop.save(path, cell, cell.init(jax.random.key(0), 2))
    >>> again, params = sc.interop.load(path)
    >>> again
    GRU(4)
    """
    safetensors = _import_safetensors()
    _check.instance("model", model, (Cell, Layer), "GRU(64)")
    config = json.dumps(to_json("model", model))
    size = _walk.check_params(model, params)
    arrays = {name: _writable(name, value) for name, value in _by_path(params).items()}
    header = {"format": FORMAT, "config": config, "input_size": str(size)}
    part = Path(f"{os.fspath(path)}.part")
    part.write_bytes(safetensors.numpy.save(arrays, header))
    part.replace(path)


def load(path: str | os.PathLike[str]) -> tuple[Model, Params]:
    """Read a file written by `save`.

    Args:
        path: the file.

    Returns:
        The cell or layer, and its parameters in the dtypes in which they were saved.

    Raises:
        ModuleNotFoundError: if the package `safetensors` (the extra `interop`) is missing.
        FileNotFoundError: if there is no such file.
        ValueError: naming the path, if the file is truncated or was not written by `save`.
    """
    safetensors = _import_safetensors()
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError(f"{path}: expected a regular file, got a folder, a pipe or a device")
    data = Path(path).read_bytes()
    try:
        rows = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a complete safetensors file, got {error}") from None
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a file of sc.interop.save ({FORMAT}), got the metadata {header}"
        )
    try:
        model = from_json(json.loads(header["config"]))
        _check.instance("config", model, (Cell, Layer), "GRU(64)")
        shapes = known_shapes(model, int(header["input_size"]))
        return model, _filled(shapes, rows)
    except _WRONG as error:
        raise ValueError(f"{path}: {error}") from error


def _writable(name: str, value: object) -> np.ndarray:
    """Return an array of a dtype that `load` reads, in C order."""
    array = _arrays.array(name, value)
    if array.dtype not in map(np.dtype, _DTYPES.values()):
        names = ", ".join(np.dtype(dtype).name for dtype in _DTYPES.values())
        raise ValueError(f"{name}: expected one of {names}, got {array.dtype}; cast it")
    return np.array(array, order="C")


def _filled(shapes: Params, rows: Mapping[str, Row]) -> Params:
    """Return the file's arrays as the tree of `shapes`, which follows from the configuration."""
    arrays: Arrays = {}
    for name, row in rows.items():
        if row["dtype"] not in _DTYPES:
            raise ValueError(f"{name}: expected one of {', '.join(_DTYPES)}, got {row['dtype']}")
        flat = np.frombuffer(row["data"], _DTYPES[row["dtype"]])
        arrays[name] = _arrays.array(name, flat.reshape(row["shape"]))
    expected = _by_path(shapes)
    _arrays.check_names("the configuration", arrays, expected)
    leaves = [jnp.array(arrays[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _by_path(params: Params) -> Arrays:
    """Return the leaves of a tree by their paths, "0.forward.w_ih"; a bare array is "params"."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "params": leaf
        for path, leaf in leaves
    }


def _import_safetensors() -> ModuleType:
    """Import safetensors, or raise an error that says how to install it."""
    names = ("safetensors.numpy", "safetensors")
    return [_check.extra(name, "seqcells[interop]") for name in names][-1]
