"""One generation: a folder with the arrays and, written last, a manifest with their checksums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from seqcells._checkpoint import _files, _leaves, _orbax
from seqcells._checkpoint._files import BrokenError, CheckpointError
from seqcells._checkpoint._leaves import Leaf, Value
from seqcells._types import Json, PyTree

FORMAT = "seqcells-checkpoint-1"
MANIFEST, ARRAYS = "manifest.json", "arrays"
Hosts = list[np.ndarray | None]  # in the order of the leaves


class Saved(NamedTuple):
    """A generation, as it was passed to `Checkpoints.save`."""

    step: int
    tree: PyTree
    about: Json
    config: Json


def write(folder: Path, header: Json, leaves: list[Json], hosts: Hosts) -> None:
    """Write a generation into a new folder, and flush it to the disk.

    Args:
        folder: the folder to create.
        header: the manifest without leaves and files.
        leaves: the manifest's entry of every leaf.
        hosts: the values of the leaves.
    """
    folder.mkdir()
    arrays = {str(i): host for i, host in enumerate(hosts) if host is not None and host.size}
    if arrays:
        _orbax.write(folder / ARRAYS, arrays)
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": _files.digest(path),
        }
        for path in _files.within(folder)
    }
    for i, array in arrays.items():
        # One uncompressed chunk, so the file has the bytes of the leaf.
        file = files.get(f"{ARRAYS}/{_orbax.data_file(i, array.shape)}", {})
        if file.get("sha256") != leaves[int(i)]["sha256"]:
            raise BrokenError(
                f"{leaves[int(i)]['path']}: the file on the disk differs from the array"
            )
    text = _files.seal({"format": FORMAT, **header, "leaves": leaves, "files": files})
    if len(text) > _limit(len(leaves)):
        raise ValueError(f"expected a manifest of at most {_limit(len(leaves))} bytes")
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    _files.sync_all(folder)


def read(folder: Path, like: PyTree, config: Json) -> Saved:
    """Read a generation, and verify it against its manifest, `like` and `config`.

    Args:
        folder: the folder of the generation.
        like: the expected tree.
        config: the expected configuration.

    Raises:
        BrokenError: it is damaged.
        CheckpointError: it is intact, but has another configuration or tree.
    """
    rows = _leaves.flatten(like)
    expected = [_leaves.describe(path, leaf) for path, leaf in rows]
    shapes = {
        str(i): _leaves.stored(leaf)
        for i, (_, leaf) in enumerate(rows)
        if leaf is not None and 0 not in np.shape(leaf)
    }
    try:
        manifest = _files.unseal(folder / MANIFEST, _limit(len(rows)))
        if manifest["format"] != FORMAT:
            raise BrokenError(f"expected the format {FORMAT}, got {manifest['format']!r:.80}")
        _check_config(folder, manifest["config"], config)
        _check_leaves(folder, manifest["leaves"], expected)
        _check_files(folder, manifest["files"], shapes)
        hosts = _orbax.read(folder / ARRAYS, shapes) if shapes else {}
        leaves = [
            _checked(entry, hosts.get(str(i)), leaf)
            for i, (entry, (_, leaf)) in enumerate(zip(manifest["leaves"], rows, strict=True))
        ]
        tree = _leaves.unflatten(like, leaves)
        return Saved(int(manifest["step"]), tree, manifest["about"], manifest["config"])
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise BrokenError(f"{type(error).__name__}: {error}") from error


def _limit(leaves: int) -> int:
    """Return the largest size of a manifest in bytes: 1 MiB, plus 2 KiB per leaf."""
    return (1 << 20) + (leaves << 11)


def _check_config(folder: Path, before: Json, now: Json) -> None:
    if json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True):  # 1 is not True
        return
    old, new = _flat("", before), _flat("", now)
    changes = [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    raise CheckpointError(
        f"{folder}: expected the configuration that it was saved with, got another (was -> is): "
        f"{'; '.join(changes)}; restore the old one, give another folder, or remove this one"
    )


def _flat(name: str, value: object) -> dict[str, str]:
    """Return the entries of a configuration as text, by their dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: json.dumps(value)}
    parts = (_flat(f"{name}.{key}".lstrip("."), part) for key, part in value.items())
    return {key: text for part in parts for key, text in part.items()}


def _check_leaves(folder: Path, entries: list[Json], expected: list[Leaf]) -> None:
    saved = [Leaf(entry["path"], entry["dtype"], tuple(entry["shape"])) for entry in entries]
    if saved != expected:
        old = [str(leaf) for leaf in saved if leaf not in expected] or ["the same in another order"]
        new = [str(leaf) for leaf in expected if leaf not in saved] or ["fewer leaves"]
        raise CheckpointError(
            f"{folder}: expected a tree like the one that was saved, got another: saved "
            f"{', '.join(old[:5])}; like has {', '.join(new[:5])}; build like as it was then, or "
            "give another folder"
        )


def _check_files(folder: Path, entries: Json, shapes: _orbax.Shapes) -> None:
    """Raise unless the files match the manifest, and are no larger than `shapes` needs."""
    known = {f"{ARRAYS}/{name}" for name in _orbax.names(shapes)} | {MANIFEST}
    sizes: dict[str, int] = {}
    for path in _files.within(folder):
        name = path.relative_to(folder).as_posix()
        sizes[name] = _files.check_regular(path)
        if name not in known:
            raise BrokenError(f"{name} does not belong there")
    del sizes[MANIFEST]
    if sizes != {name: entry["size"] for name, entry in entries.items()}:
        changed = sorted(
            n for n in entries.keys() | sizes if sizes.get(n) != entries.get(n, {}).get("size")
        )
        raise BrokenError(f"{', '.join(changed)}: missing, or its size has changed")
    if sum(sizes.values()) > _orbax.room(shapes):
        raise BrokenError(f"{sum(sizes.values())} bytes are more than like has room for")
    for name, entry in entries.items():
        if _files.digest(folder / name) != entry["sha256"]:
            raise BrokenError(f"{name} is not what was written")


def _checked(entry: Json, host: np.ndarray | None, like: Value) -> Value:
    """Convert an array that was read to the type of `like`; raise if it is not what was saved."""
    if like is None:
        return None
    stored = _leaves.stored(like)
    host = np.empty(stored.shape, stored.dtype) if host is None else host  # has no elements
    if host.dtype != stored.dtype or host.shape != stored.shape:
        raise BrokenError(f"{entry['path']}: read as {host.dtype}{list(host.shape)}")
    if _leaves.sha256(host) != entry["sha256"]:
        raise BrokenError(f"{entry['path']}: its values differ from those that were saved")
    leaf = _leaves.place(host, like, entry["key"])
    if isinstance(leaf, jax.Array) and leaf.dtype != like.dtype:
        raise BrokenError(f"{entry['path']}: expected {like.dtype}, got {leaf.dtype}")
    return leaf
