"""One generation: a folder with the arrays and, written last, the manifest they are checked by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seqcells._checkpoint import _files, _leaves, _orbax
from seqcells._checkpoint._files import BrokenError, CheckpointError
from seqcells._checkpoint._leaves import Leaf

FORMAT = "seqcells-checkpoint-1"
MANIFEST, ARRAYS = "manifest.json", "arrays"
Hosts = list[np.ndarray | None]  # in the order of the leaves


class Saved(NamedTuple):
    """A generation, as it was given to `Checkpoints.save`."""

    step: int
    tree: Any
    about: dict[str, Any]
    config: dict[str, Any]


def write(folder: Path, said: dict[str, Any], leaves: list[dict[str, Any]], hosts: Hosts) -> None:
    """Write a generation into a new folder, and return when it is on the disk.

    Args:
        folder: to make.
        said: the manifest, as far as it is not about leaves and files.
        leaves: what the manifest says of every leaf.
        hosts: the leaves.
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
    text = _files.seal({"format": FORMAT, **said, "leaves": leaves, "files": files})
    if len(text) > _limit(len(leaves)):
        raise ValueError(f"expected a manifest of at most {_limit(len(leaves))} bytes")
    (folder / MANIFEST).write_text(text)
    _files.sync_all(folder)


def read(folder: Path, like: Any, config: dict[str, Any]) -> Saved:
    """Read a generation, checking everything against its manifest, `like` and `config`.

    Args:
        folder: of the generation.
        like: the tree that is wanted.
        config: the configuration that is wanted.

    Raises:
        BrokenError: where it is not what was written.
        CheckpointError: where it is, but of another configuration or tree.
    """
    rows = _leaves.flatten(like)
    wanted = [_leaves.describe(path, leaf) for path, leaf in rows]
    shapes = {
        str(i): _leaves.stored(leaf)
        for i, (_, leaf) in enumerate(rows)
        if leaf is not None and 0 not in np.shape(leaf)
    }
    try:
        said = _files.unseal(folder / MANIFEST, _limit(len(rows)))
        if said["format"] != FORMAT:
            raise BrokenError(f"expected the format {FORMAT}, got {said['format']!r:.80}")
        _check_config(folder, said["config"], config)
        _check_leaves(folder, said["leaves"], wanted)
        _check_files(folder, said["files"], shapes)
        hosts = _orbax.read(folder / ARRAYS, shapes) if shapes else {}
        leaves = [
            _checked(one, hosts.get(str(i)), leaf)
            for i, (one, (_, leaf)) in enumerate(zip(said["leaves"], rows, strict=True))
        ]
        tree = _leaves.unflatten(like, leaves)
        return Saved(int(said["step"]), tree, said["about"], said["config"])
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise BrokenError(f"{type(error).__name__}: {error}") from error


def _limit(leaves: int) -> int:
    """Bytes of a manifest, at most: 1 MiB, and 2 KiB a leaf."""
    return (1 << 20) + (leaves << 11)


def _check_config(folder: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    if was == now:
        return
    old, new = _flat("", was), _flat("", now)
    changes = [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    raise CheckpointError(
        f"{folder}: expected the configuration that it was saved with, got another (was -> is): "
        f"{'; '.join(changes)}; go back to the old one, give another folder, or delete() it"
    )


def _flat(name: str, value: Any) -> dict[str, str]:
    """The entries of a configuration as text, by their dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: json.dumps(value)}
    parts = (_flat(f"{name}.{key}".lstrip("."), part) for key, part in value.items())
    return {key: text for part in parts for key, text in part.items()}


def _check_leaves(folder: Path, said: list[dict[str, Any]], wanted: list[Leaf]) -> None:
    found = [Leaf(one["path"], one["dtype"], tuple(one["shape"])) for one in said]
    if found != wanted:
        was = [str(leaf) for leaf in found if leaf not in wanted] or ["the same in another order"]
        now = [str(leaf) for leaf in wanted if leaf not in found] or ["fewer leaves"]
        raise CheckpointError(
            f"{folder}: expected a tree like the one that was saved, got another: saved "
            f"{', '.join(was[:5])}; like has {', '.join(now[:5])}; make like as it was then, or "
            "give another folder"
        )


def _check_files(folder: Path, said: dict[str, Any], shapes: _orbax.Shapes) -> None:
    """Raise unless there are the files that the manifest names, no larger than `shapes` needs."""
    known = {f"{ARRAYS}/{name}" for name in _orbax.names(shapes)} | {MANIFEST}
    sizes: dict[str, int] = {}
    for path in _files.within(folder):
        name = path.relative_to(folder).as_posix()
        sizes[name] = _files.check_regular(path)
        if name not in known:
            raise BrokenError(f"{name} does not belong there")
    del sizes[MANIFEST]
    if sizes != {name: one["size"] for name, one in said.items()}:
        changed = sorted(
            n for n in said.keys() | sizes if sizes.get(n) != said.get(n, {}).get("size")
        )
        raise BrokenError(f"{', '.join(changed)}: missing, or not as long as it was")
    if sum(sizes.values()) > _orbax.room(shapes):
        raise BrokenError(f"{sum(sizes.values())} bytes are more than like has room for")
    for name, one in said.items():
        if _files.digest(folder / name) != one["sha256"]:
            raise BrokenError(f"{name} is not what was written")


def _checked(said: dict[str, Any], host: np.ndarray | None, like: Any) -> Any:
    """Make the leaf that `like` is of what was read, if that is what was saved."""
    if like is None:
        return None
    stored = _leaves.stored(like)
    host = np.empty(stored.shape, stored.dtype) if host is None else host  # has no elements
    if host.dtype != stored.dtype or host.shape != stored.shape:
        raise BrokenError(f"{said['path']}: read as {host.dtype}{list(host.shape)}")
    if _leaves.sha256(host) != said["sha256"]:
        raise BrokenError(f"{said['path']}: its numbers are not those that were saved")
    leaf = _leaves.place(host, like, said["key"])
    if isinstance(leaf, jax.Array) and leaf.dtype != like.dtype:
        raise BrokenError(f"{said['path']}: expected {like.dtype}, got {leaf.dtype}")
    return leaf
