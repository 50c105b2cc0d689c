"""Hurt a small training run, and see that nothing is lost: rows 1 and 4 to 8 of reliability.

    pip install 'seqcells[sweep]' tyro rich
    python scripts/chaos.py all --quick
    python scripts/chaos.py kill --count 100 --minutes 20

kill (row 1), signals (4), full (5), flip (6), twice (7) and changed (8) print what they tried and
what survived, and exit with 1 unless that is all. Every trial is a line of OUT/row-N.jsonl: where
it was stopped, the same command goes on; --fresh starts anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import _cluster
import jax.numpy as jnp
import tyro
from _victim import CONFIG, digest, start
from rich.console import Console
from rich.progress import track

from seqcells._checkpoint import CheckpointError, Checkpoints

VICTIM = str(Path(__file__).with_name("_victim.py"))
PATIENCE = 120.0  # seconds that a process may live


@dataclasses.dataclass(frozen=True)
class Options:
    """How much to try.

    Args:
        out: folder of the results.
        count: trials; 0 is 20 kills, 10 signals, 4 full disks, 300 flips, 3 pairs, 20 changes.
        minutes: after which no trial is begun.
        quick: the short form, a tenth of the trials.
        fresh: forget what was tried before.
        seed: of the moments and places.
    """

    out: Path = Path("runs/chaos")
    count: int = 0
    minutes: float = 20.0
    quick: bool = False
    fresh: bool = False
    seed: int = 0


class Tally:
    """The trials of one row, those of earlier calls too."""

    def __init__(self, row: int, usual: int, options: Options) -> None:
        self.row = row
        self.folder = options.out / f"row-{row}"
        self.file = options.out / f"row-{row}.jsonl"
        if options.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.file.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.results = [json.loads(line) for line in lines]
        self.count = options.count or (max(2, usual // 10) if options.quick else usual)
        self.end = time.monotonic() + 60 * options.minutes
        self.random = random.Random(f"{options.seed} {row} {len(lines)}")

    def trials(self) -> Iterator[int]:
        """The trials that are left, as long as there is time."""
        left = range(len(self.results), self.count)
        console = Console(stderr=True)
        for trial in track(left, f"row {self.row}", console=console, transient=True):
            if time.monotonic() > self.end:
                return
            yield trial

    def add(self, survived: bool, **about: Any) -> None:
        """Keep one trial."""
        self.results.append({"survived": survived, **about})
        with self.file.open("a") as file:
            file.write(json.dumps(self.results[-1]) + "\n")

    def report(self, also: bool = True) -> bool:
        """Print the row; return whether all survived, and `also`."""
        survived = sum(one["survived"] for one in self.results)
        print(f"row {self.row}: tried {len(self.results)}, survived {survived}", flush=True)
        for one in self.results:
            if not one["survived"]:
                print(f"  lost: {one}")
        return also and survived == len(self.results) >= self.count


class Victim:
    """A process that is hurt, and the lines it has said."""

    def __init__(self, *arguments: object, before: tuple[str, ...] = ()) -> None:
        command = [*before, sys.executable, VICTIM, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.bound = threading.Timer(PATIENCE, self.process.kill)
        self.bound.start()
        self.lines: list[str] = []

    def read(self) -> Iterator[str]:
        """Lines as they are said, until it has ended."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            yield line.strip()

    def until(self, word: str) -> str:
        """Read lines until one begins with `word`; return the rest of it."""
        for line in self.read():
            if line.split()[:1] == [word]:
                return line.removeprefix(word).strip()
        raise RuntimeError("\n".join([f"ended before it said {word!r}:", *self.lines]))

    def end(self) -> int:
        """Wait until it has ended, and return the exit code."""
        list(self.read())
        return self.process.wait()

    def said(self, word: str) -> list[str]:
        """What followed `word`, every time."""
        return [line.removeprefix(word).strip() for line in self.lines if line.startswith(word)]

    def stop(self) -> None:
        """End it if it has not."""
        self.bound.cancel()
        self.process.kill()
        with self.process:  # closes its pipe and waits
            pass


@contextlib.contextmanager
def victim(*arguments: object, before: tuple[str, ...] = ()) -> Iterator[Victim]:
    """A process that does not outlive its trial."""
    one = Victim(*arguments, before=before)
    try:
        yield one
    finally:
        one.stop()


# --- The rows.


@functools.cache
def unbroken() -> tuple[str, float]:
    """Hash of a run that nobody hurts, and its seconds without the imports."""
    with tempfile.TemporaryDirectory() as folder, victim("run", folder) as one:
        one.until("ready")
        begun = time.monotonic()
        return one.until("done"), time.monotonic() - begun


def latest(folder: Path) -> int:
    """Step of the newest checkpoint, 0 without one; a broken one is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved = Checkpoints(folder, CONFIG).load(like=start()[0])
    return 0 if saved is None else saved.step


def kill(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
    """Row 1: kill -9 at random moments; it goes on, and ends with the hash of an unbroken run."""
    tally = Tally(1, 20, options)
    folder = tally.folder / "run"
    whole, seconds = unbroken()
    equal: list[bool] = []

    def live(moment: float | None) -> Victim:
        """One process, killed at a moment or not."""
        with victim("run", folder) as one:
            if moment is not None:
                one.until("ready")
                time.sleep(moment)
                one.process.kill()
            if one.end() == 0:
                equal.append(one.said("done") == [whole])
                Checkpoints(folder, CONFIG).delete()
        return one

    def one_kill() -> dict[str, Any]:
        """Kill one process; if it has ended sooner, the next, which is of a new run."""
        while True:
            before, moment = latest(folder), tally.random.uniform(0, seconds)
            one = live(moment)
            if one.process.returncode != 0:
                saved = int([before, *one.said("saved")][-1])
                code, found = one.process.returncode, latest(folder)
                survived = code == -signal.SIGKILL and found in (saved, saved + CONFIG["segment"])
                return {"survived": survived, "code": code, "saved": saved, "found": found}

    for _ in tally.trials():
        tally.add(**one_kill())
    live(None)
    print(f"row 1: {sum(equal)} of {len(equal)} runs ended with the hash of the unbroken one")
    return tally.report(bool(equal) and all(equal))


def signals(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
    """Row 4: SIGTERM and SIGINT; it saves and exits with 143 or 130 within 5 s."""
    tally = Tally(4, 10, options)
    for trial in tally.trials():
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        folder = tally.folder / f"run-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        with victim("run", folder, 100_000) as one:
            one.until("saved")
            time.sleep(tally.random.uniform(0, 0.5))
            one.process.send_signal(number)
            begun = time.monotonic()
            code = one.end()
        seconds = time.monotonic() - begun
        found = latest(folder)
        saved = int(one.said("saved")[-1])
        survived = code == 128 + number and seconds < 5 and found == saved
        tally.add(survived, signal=number, code=code, seconds=round(seconds, 2), found=found)
    return tally.report()


def full(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
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


def flip(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
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


def twice(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
    """Row 7: two runs in one folder; the second exits within 5 s, the first ends as if alone."""
    tally = Tally(7, 3, options)
    whole, _ = unbroken()
    for trial in tally.trials():
        folder = tally.folder / f"run-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        with victim("run", folder) as first:
            first.until("at")
            with victim("run", folder) as second:
                second.until("ready")
                begun = time.monotonic()
                code = second.end()
                seconds = time.monotonic() - begun
            held = first.process.poll() is None
            first.end()
        named = f"pid {first.process.pid} on" in "".join(second.said("refused"))
        survived = held and named and code == 1 and seconds < 5 and first.said("done") == [whole]
        tally.add(survived, held=held, named=named, code=code, seconds=round(seconds, 2))
    return tally.report()


def changed(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
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


def dead(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
    """Row 2: kill -9 one of two processes; all exit within 30 s, and run again end as unbroken."""
    return _cluster.dead(Tally(2, 10, options))


def hung(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
    """Row 3: one of two processes hangs; all exit within 60 s, and its rank is said."""
    return _cluster.hung(Tally(3, 4, options))


ROWS: dict[int, Callable[[Options], bool]] = {
    1: kill,
    2: dead,
    3: hung,
    4: signals,
    5: full,
    6: flip,
    7: twice,
    8: changed,
}


def every(options: Annotated[Options, tyro.conf.OmitArgPrefixes]) -> bool:
    """All rows, one after the other."""
    return all([row(options) for row in ROWS.values()])


def main() -> int:
    """Run what is asked for; 0 where all survived."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # it starts sooner
    commands = {row.__name__: row for row in ROWS.values()}
    return int(not tyro.extras.subcommand_cli_from_dict({**commands, "all": every}))


if __name__ == "__main__":
    sys.exit(main())
