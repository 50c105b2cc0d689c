"""Rows 5, 6 and 8: full disks, damaged checkpoints and changed configurations."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import jax.numpy as jnp

from scripts.chaos.child import latest, target
from scripts.chaos.model import CONFIG, digest, start
from scripts.chaos.trials import Options, Trials
from seqcells._checkpoint import CheckpointError, Checkpoints
from seqcells.train import TrainState


def full(options: Options) -> bool:
    """Row 5: a full disk of 3 MB; the error names the path, and the last checkpoint loads."""
    trials = Trials(5, 4, options)
    for trial in trials:
        mounted = trial % 2 == 0 and can_mount()
        size = trials.random.randrange(1_060_000, 1_450_000)  # two checkpoints fit
        folder = trials.empty(f"disk-{trial}")
        folder.mkdir()
        prefix = with_small_disk(folder) if mounted else ()
        limit = () if mounted else ("limited",)
        with target("fill", folder, size, *limit, prefix=prefix) as child:
            code = child.wait()
        refused, steps = child.printed("refused"), child.printed("saved")
        loaded = child.printed("loaded") == steps[-1:] != []
        passed = code == 1 and len(refused) == 1 and loaded and str(folder) in refused[0]
        disk = "tmpfs of 3 MB" if mounted else "RLIMIT_FSIZE"
        trials.add(passed, disk=disk, size=size, code=code, lines=child.lines)
    return trials.report()


def with_small_disk(folder: Path) -> tuple[str, ...]:
    """Return a prefix for a command that sees a disk of 3 MB at `folder` until it ends."""
    script = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"'
    return ("unshare", "--mount", "--map-root-user", "sh", "-c", script, str(folder))


def can_mount() -> bool:
    """Whether a small disk may be mounted here."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError):
        command = [*with_small_disk(Path(folder)), "true"]
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def flip(options: Options) -> bool:
    """Row 6: files flipped, cut, longer or missing; it falls back, or raises if both are bad."""
    trials = Trials(6, 300, options)
    shutil.rmtree(trials.folder)
    intact, damaged = trials.folder / "intact", trials.folder / "damaged"
    trees = [start()[0]._replace(step=jnp.int32(step)) for step in (1, 2)]
    for step, tree in enumerate(trees, 1):
        Checkpoints(intact, CONFIG).save(step, tree)
    old, new = sorted(path.name for path in intact.glob("generation-*"))
    hashes = {step: digest(tree) for step, tree in enumerate(trees, 1)}
    for trial in trials:
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(intact, damaged)
        names, expected = [([new], 1), ([new], 1), ([old], 2), ([old, new], None)][trial % 4]
        damages = [damage(damaged / name, trials.random) for name in names]
        result, step = outcome(damaged, trees[0])
        passed = step == expected and (expected is None or result == hashes[expected])
        trials.add(passed, damages=damages, step=step, expected=expected, result=result)
    return trials.report()


def damage(generation: Path, draw: random.Random) -> str:
    """Damage one file of a generation; return a description."""
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


def outcome(folder: Path, like: TrainState) -> tuple[str, int | None]:
    """Load; return a hash and the step (-1 if a warning is missing), or the error and None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            saved = Checkpoints(folder, CONFIG).load(like)
        except CheckpointError as error:
            return str(error), None
    if saved is None or (saved.step == 2) == bool(caught):
        return f"step {saved and saved.step} with {len(caught)} warnings", -1
    return digest(saved.tree), saved.step


def changed(options: Options) -> bool:
    """Row 8: another configuration; rejected with the difference, and the old one still loads."""
    trials = Trials(8, 20, options)
    folder = trials.empty("run")
    state = start()[0]
    Checkpoints(folder, CONFIG).save(7, state)
    for _ in trials:
        number = trials.random.randrange(6, 100)
        config, difference = trials.random.choice(
            [
                (CONFIG | {"segment": number}, f"segment: 5 -> {number}"),
                (CONFIG | {"new": [number]}, f"new: absent -> [{number}]"),
                (CONFIG | {"cell": CONFIG["cell"] | {"name": "GRU"}}, 'cell.name: "RNN" -> "GRU"'),
                ({k: v for k, v in CONFIG.items() if k != "segment"}, "segment: 5 -> absent"),
            ]
        )
        try:
            result = f"loaded {Checkpoints(folder, config).load(state)}"
        except CheckpointError as error:
            result = str(error)
        passed = f"{difference};" in result and latest(folder) == 7
        trials.add(passed, difference=difference, result=result)
    return trials.report()
