"""A cell or layer and its parameters in one safetensors file.

The header says the configuration as JSON, and for every array its name, shape and dtype, so any
reader of safetensors can open the file. Nothing in it is run: classes are looked up in a table.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check, cells, engines, initializers, layers, wrappers
from seqcells._cell import Cell, known_shapes
from seqcells.interop import _arrays, _walk
from seqcells.interop._walk import CellOrLayer
from seqcells.layers import Layer

FORMAT = "seqcells-1"
_CLASSES = {
    kind.__name__: kind
    for kind in (
        *(cells.RNN, cells.GRU, cells.LSTM, cells.MGU, cells.IndRNN, cells.MinGRU, cells.LRU),
        *(layers.Recurrent, layers.Bidirectional, layers.Residual, layers.Stack),
        *(wrappers.VariationalDropout, wrappers.Zoneout, wrappers.LayerNorm),
        *(engines.Scan, engines.AssociativeScan, engines.Truncated),
        *(
            initializers.Orthogonal,
            initializers.Identity,
            initializers.Normal,
            initializers.Uniform,
        ),
        *(initializers.Glorot, initializers.Lecun, initializers.Chrono),
    )
}
_FUNCTIONS = {"zeros": initializers.zeros, "ones": initializers.ones}
_WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}


def save(path: str | os.PathLike[str], cell_or_layer: CellOrLayer, params: Any) -> None:
    """Write a cell or layer and its parameters to a file, which is replaced whole or not at all.

    Args:
        path: of the file; its folder must exist.
        cell_or_layer: any cell or layer made of this library's classes and initialisers.
        params: its parameters.

    Raises:
        ModuleNotFoundError: without the package `safetensors` (the extra `interop`).
        ValueError: on a function or class of one's own, or parameters that are not this layer's.

    >>> import jax, tempfile, pathlib, seqcells as sc
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "gru.safetensors"
    >>> cell = sc.GRU(4)
    >>> sc.interop.save(path, cell, cell.init(jax.random.key(0), 2))
    >>> again, params = sc.interop.load(path)
    >>> again
    GRU(4)
    """
    tensors = _safetensors()
    _check.instance("cell_or_layer", cell_or_layer, (Cell, Layer), "GRU(64)")
    config = json.dumps(_encode("cell_or_layer", cell_or_layer))
    size = _walk.check_params(cell_or_layer, params)
    host = {
        name: np.array(_arrays.array(name, value), order="C")
        for name, value in _named(params).items()
    }
    said = {"format": FORMAT, "config": config, "input_size": str(size)}
    part = Path(f"{os.fspath(path)}.part")
    part.write_bytes(tensors.numpy.save(host, said))
    part.replace(path)


def load(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Read a file that `save` wrote.

    Args:
        path: of the file.

    Returns:
        The cell or layer, and its parameters in the dtypes that they were saved in.

    Raises:
        ModuleNotFoundError: without the package `safetensors` (the extra `interop`).
        FileNotFoundError: where there is no such file.
        ValueError: naming the path, where the file is cut short, or another program's.
    """
    tensors = _safetensors()
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError(f"{path}: expected a regular file, got a folder, a pipe or a device")
    data = Path(path).read_bytes()
    try:
        rows = dict(tensors.deserialize(data))
    except tensors.SafetensorError as error:
        raise ValueError(f"{path}: expected a whole safetensors file, got {error}") from None
    length = int.from_bytes(data[:8], "little")
    said = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    if said.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a file of sc.interop.save ({FORMAT}), got the metadata {said}"
        )
    try:
        layer = _decode(json.loads(said["config"]))
        _check.instance("config", layer, (Cell, Layer), "GRU(64)")
        expected = known_shapes(layer, int(said["input_size"]))
        return layer, _filled(expected, rows)
    except _WRONG as error:
        raise ValueError(f"{path}: {error}") from error


def _filled(expected: Any, rows: dict[str, Any]) -> Any:
    """Put the file's arrays in place of the shapes that the configuration calls for."""
    arrays = {}
    for name, row in rows.items():
        if row["dtype"] not in _DTYPES:
            raise ValueError(f"{name}: expected one of {', '.join(_DTYPES)}, got {row['dtype']}")
        flat = np.frombuffer(row["data"], _DTYPES[row["dtype"]])
        arrays[name] = _arrays.array(name, flat.reshape(row["shape"]))
    shapes = _named(expected)
    _arrays.check_names("the configuration", arrays, shapes)
    leaves = [jnp.array(arrays[name]) for name in shapes]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths: "0.forward.w_ih"; of a bare array, "params"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "params": leaf
        for path, leaf in leaves
    }


def _encode(where: str, value: Any) -> Any:
    """Say a value as JSON: a class as {"class": name, ...}, a function by its name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return [_encode(f"{where}[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    for name, function in _FUNCTIONS.items():
        if value is function:
            return {"function": name}
    if _CLASSES.get(type(value).__name__) is type(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        said = {name: _encode(f"{where}.{name}", part) for name, part in fields.items()}
        return {"class": type(value).__name__} | said
    raise ValueError(
        f"{where}: expected a class of seqcells, or an initialiser of seqcells.initializers, which "
        f"a file can name, got {value!r}"
    )


def _decode(said: Any) -> Any:
    """Undo `_encode`."""
    if isinstance(said, list):
        return tuple(_decode(part) for part in said)
    if not isinstance(said, dict):
        return said
    if "class" in said:
        fields = {name: _decode(part) for name, part in said.items() if name != "class"}
        return _known(_CLASSES, said["class"])(**fields)
    if "function" in said:
        return _known(_FUNCTIONS, said["function"])
    return jnp.dtype(said["dtype"])


def _known(table: dict[str, Any], name: str) -> Any:
    if name not in table:
        raise ValueError(f"config: expected one of {', '.join(table)}, got {name!r}")
    return table[name]


def _safetensors() -> Any:
    """Import safetensors, or say how to get it."""
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "sc.interop.save and load need the package safetensors: pip install 'seqcells[interop]'"
        ) from None
    return safetensors
