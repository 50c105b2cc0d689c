"""Rows of reliability that hurt what is on the disk: 5, 6 and 8."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from _tally import Options, Tally
from _victim import CONFIG, digest, start
from _victims import latest, victim

from seqcells._checkpoint import CheckpointError, Checkpoints


def full(options: Options) -> bool:
    """Row 5: a full disk of 3 MB; it is said at once with the path, and the last one loads."""
    tally = Tally(5, 4, options)
    for trial in tally.trials():
        mounted = trial % 2 == 0 and can_mount()
        size = tally.random.randrange(1_060_000, 1_450_000)  # two of them fit
        folder = tally.folder / f"disk-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        before = in_small_disk(folder) if mounted else ()
        limit = () if mounted else ("limited",)
        with victim("fill", folder, size, *limit, before=before) as one:
            code = one.end()
        refused, steps = one.said("refused"), one.said("saved")
        survived = code == 1 and len(refused) == 1 and one.said("loaded") == steps[-1:] != []
        survived = survived and str(folder) in refused[0]
        disk = "tmpfs of 3 MB" if mounted else "RLIMIT_FSIZE"
        tally.add(survived, disk=disk, size=size, code=code, lines=one.lines)
    return tally.report()


def in_small_disk(folder: Path) -> tuple[str, ...]:
    """Begin of a command that sees a disk of 3 MB there, which goes when it ends."""
    script = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"'
    return ("unshare", "--mount", "--map-root-user", "sh", "-c", script, str(folder))


def can_mount() -> bool:
    """Whether a small disk may be mounted here."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError):
        command = [*in_small_disk(Path(folder)), "true"]
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def flip(options: Options) -> bool:
    """Row 6: flipped bits, cut, longer and missing files; one generation falls back, two raise."""
    tally = Tally(6, 300, options)
    shutil.rmtree(tally.folder)
    whole = tally.folder / "whole"
    trees = [start()[0]._replace(step=jnp.int32(step)) for step in (1, 2)]
    for step, tree in enumerate(trees, 1):
        Checkpoints(whole, CONFIG).save(step, tree)
    old, new = sorted(whole.glob("generation-*"))
    wanted = {step: digest(tree) for step, tree in enumerate(trees, 1)}
    for trial in tally.trials():
        folder = tally.folder / "hurt"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        hurt, right = [([new], 1), ([new], 1), ([old], 2), ([old, new], None)][trial % 4]
        did = [damage(folder / one.name, tally.random) for one in hurt]
        found, step = outcome(folder, trees[0])
        survived = step == right and (right is None or found == wanted[right])
        tally.add(survived, did=did, step=step, wanted=right, found=found)
    return tally.report()


def damage(generation: Path, draw: random.Random) -> str:
    """Do something to one file of a generation; return what."""
    files = sorted(path for path in generation.rglob("*") if path.is_file())
    file = draw.choice(files)
    data = bytearray(file.read_bytes())
    kind = draw.choice(["flip", "flip", "flip", "cut", "longer", "missing"])
    at = draw.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << draw.randrange(8)
    if kind == "cut":
        del data[at:]
    file.write_bytes(data + b"\0" * (kind == "longer"))
    if kind == "missing":
        file.unlink()
    return f"{kind} {file.relative_to(generation)} at {at}"


def outcome(folder: Path, like: Any) -> tuple[str, int | None]:
    """What a load comes to: a hash and a step; or, said as such, an error and no step."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            saved = Checkpoints(folder, CONFIG).load(like)
        except CheckpointError as error:
            return str(error), None
    if saved is None or (saved.step == 2) == bool(said):
        return f"step {saved and saved.step} with {len(said)} warnings", -1
    return digest(saved.tree), saved.step


def changed(options: Options) -> bool:
    """Row 8: another configuration; refused with the difference, and the old one still loads."""
    tally = Tally(8, 20, options)
    folder = tally.folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    state = start()[0]
    Checkpoints(folder, CONFIG).save(7, state)
    for _ in tally.trials():
        number = tally.random.randrange(6, 100)
        config, shown = tally.random.choice(
            [
                (CONFIG | {"segment": number}, f"segment: 5 -> {number}"),
                (CONFIG | {"new": [number]}, f"new: absent -> [{number}]"),
                (CONFIG | {"cell": CONFIG["cell"] | {"name": "GRU"}}, 'cell.name: "RNN" -> "GRU"'),
                ({k: v for k, v in CONFIG.items() if k != "segment"}, "segment: 5 -> absent"),
            ]
        )
        try:
            said = f"loaded {Checkpoints(folder, config).load(state)}"
        except CheckpointError as error:
            said = str(error)
        tally.add(f"{shown};" in said and latest(folder) == 7, shown=shown, said=said)
    return tally.report()
