"""Checkpoints that are written atomically and verified byte by byte before use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from seqcells import _check
from seqcells._checkpoint import _files, _generation, _leaves, _orbax
from seqcells._checkpoint._files import BrokenError, CheckpointError, local
from seqcells._checkpoint._generation import Saved
from seqcells._checkpoint._lock import RunLocked, hold
from seqcells._types import Json, PyTree

__all__ = ["CheckpointError", "Checkpoints", "RunLocked", "Saved"]

_PART = ".part"  # suffix of a generation that is being written or removed
_LIMIT = 1 << 18  # maximal bytes of a configuration, and of `about`


class Checkpoints:
    """The checkpoints of one run: `keep` generations in a folder, each written atomically.

    A generation is written under a temporary name, synced, and then renamed. It holds the arrays in
    Orbax's format, and a manifest: SHA-256, shape and dtype of every leaf, size and SHA-256 of
    every file, the versions, the configuration, and the manifest's own SHA-256. It contains no
    code, and `load` reads no more bytes than `like` has room for.

    With several processes, each needs its own folder. Needs a POSIX system and Orbax (the extra
    `sweep`). Not thread-safe.

    Args:
        folder: the folder of the run, created when it is first needed.
        config: everything that the run depends on, as JSON; another configuration is rejected.
        keep: generations to keep, at least 1; with 1 there is no older one to fall back to.

    >>> import tempfile, jax, jax.numpy as jnp
    >>> checkpoints = Checkpoints(tempfile.mkdtemp(), {"learning_rate": 0.1})
    >>> with checkpoints.lock():
    ...     checkpoints.save(100, {"w": jnp.ones(3), "key": jax.random.key(0)})
    >>> saved = checkpoints.load(like={"w": jnp.zeros(3), "key": jax.random.key(1)})
    >>> saved.step, saved.tree["w"]
    (100, Array([1., 1., 1.], dtype=float32))
    """

    def __init__(self, folder: str | os.PathLike[str], config: Json, keep: int = 2) -> None:
        self.folder = local("folder", folder)
        self.config = as_json("config", config)
        self.keep = _check.size("keep", keep, least=1)
        self._held = False
        self._broken: set[Path] = set()  # generations that `load` has rejected

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this run; `save` and `delete` also lock it themselves.

        Raises:
            RunLocked: another run has locked it; raised at once, and names the process.
            CheckpointError: the folder cannot be written to, or has a backslash in its path.
        """
        if self._held:
            yield
            return
        if "\\" in str(self.folder):
            raise CheckpointError(
                f"{self.folder}: expected a path without a backslash, which Orbax treats as a "
                "separator, so that arrays go elsewhere; give another folder"
            )
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hold(self.folder))
            except OSError as error:
                raise CheckpointError(f"{self.folder}: cannot be locked ({error})") from error
            stack.callback(setattr, self, "_held", False)
            self._held = True
            yield

    def save(self, step: int, tree: PyTree, about: Json | None = None) -> None:
        """Write a generation, and flush it to the disk.

        Args:
            step: the step of the run.
            tree: a tree of arrays, typed random keys, numbers and None.
            about: further information, as JSON.

        Raises:
            CheckpointError: it cannot be written, for instance because the disk is full; earlier
                generations stay.
            RunLocked: another run has locked the folder.
            ModuleNotFoundError: Orbax is not installed.
        """
        header = {
            "step": _check.size("step", step, least=0),
            "about": as_json("about", about or {}),
            "config": self.config,
            "config_sha256": hashlib.sha256(_canonical(self.config).encode()).hexdigest(),
            "versions": _orbax.versions(),
        }
        leaves, hosts = _leaves.fetch_all(tree)
        with self.lock():
            self._clean()
            self._write(header, leaves, hosts)
            self._prune()

    def load(self, like: PyTree) -> Saved | None:
        """Read the newest intact generation; warn about newer ones that are damaged.

        Args:
            like: a tree of arrays or of `jax.ShapeDtypeStruct`, with the expected shapes, dtypes
                and shardings.

        Returns:
            The generation, or None if there is none.

        Raises:
            CheckpointError: all generations are damaged, or the intact one has another
                configuration, or its tree differs from `like`.
            ModuleNotFoundError: Orbax is not installed.
        """
        broken: list[str] = []
        for generation in reversed(self._generations()):
            try:
                saved = _generation.read(generation, like, self.config)
            except BrokenError as error:
                self._broken.add(generation)
                broken.append(f"{generation}: {error}")
                continue
            if broken:
                fallback = f"step {saved.step} of {generation}"
                warnings.warn(
                    f"going back to {fallback}, because {'; '.join(broken)}", stacklevel=2
                )
            return saved
        if broken:
            raise CheckpointError(
                f"expected an intact checkpoint, got {'; '.join(broken)}; put back a copy of "
                f"one, or remove the folder {self.folder} to start again at step 0"
            )
        return None

    def delete(self) -> None:
        """Remove all generations; the folder and its lock stay."""
        with self.lock():
            for generation in self._generations():
                _remove(generation)
            self._clean()

    def _generations(self) -> list[Path]:
        """Return the complete generations, oldest first."""
        paths = self.folder.glob("generation-*")
        return sorted(path for path in paths if re.fullmatch(r"generation-\d{8}", path.name))

    def _write(self, header: Json, leaves: list[Json], hosts: _generation.Hosts) -> None:
        last = self._generations()[-1:]
        number = int(last[0].name.split("-")[1]) + 1 if last else 0
        whole = self.folder / f"generation-{number:08d}"
        part = whole.with_suffix(_PART)
        try:
            _generation.write(part, header, leaves, hosts)
            part.rename(whole)
            _files.sync(self.folder)
        except (
            Exception
        ) as error:  # Orbax does not document which errors it raises when a disk is full
            shutil.rmtree(part, ignore_errors=True)
            before = f"{last[0]} is as it was" if last else "no earlier one exists"
            raise CheckpointError(
                f"{part}: step {header['step']} could not be written ({error}); {before}; make "
                "room on the disk, or give another folder"
            ) from error

    def _prune(self) -> None:
        """Remove all but the newest generations, and those known to be damaged."""
        generations = self._generations()
        kept = [path for path in generations if path not in self._broken][-self.keep :]
        for path in generations:
            if path not in kept:
                _remove(path)

    def _clean(self) -> None:
        """Remove the incomplete generations that a killed run left."""
        for path in self.folder.glob(f"generation-*{_PART}"):
            _files.remove(path)


def _remove(generation: Path) -> None:
    """Delete a generation atomically: rename it first."""
    _files.remove(generation.rename(generation.with_suffix(_PART)))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def as_json(name: str, value: Json) -> Json:
    """Return a dict after a round trip through JSON."""
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected a dict, got {_check.describe_one(value)}")
    try:
        text = _canonical(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected values that JSON can hold, got {error}") from None
    if len(text) > _LIMIT:
        raise ValueError(f"{name}: expected at most {_LIMIT} bytes of JSON, got {len(text)}")
    return json.loads(text)
