"""The trials of a row: how many to run, and a file of their results."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import track

from experiments.lab import BadInput
from seqcells.sweep._files import naming


@dataclasses.dataclass(frozen=True)
class _Options:
    """The number of trials to run.

    Args:
        out: folder of the results.
        count: number of trials; 0 means the row's default, from 3 diverging sweeps to 300 flips.
        minutes: stop starting new trials after this many minutes.
        quick: run a tenth of the trials.
        fresh: delete the results of earlier calls.
        seed: seed of the random moments and places.
    """

    out: Path = Path("runs/chaos")
    count: int = 0
    minutes: float = 20.0
    quick: bool = False
    fresh: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raise `BadInput` if a number is out of range."""
        for name in ("count", "minutes"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"{name}: expected 0 or more, got {getattr(self, name)}")


Options = Annotated[_Options, tyro.conf.OmitArgPrefixes]


class Trials:
    """The trials of one row, including those of earlier calls.

    Args:
        row: number of the row.
        usual: number of trials unless the options give another one.
        options: the number of trials.
    """

    def __init__(self, row: int, usual: int, options: Options) -> None:
        self.row = row
        self.folder = options.out / f"row-{row}"
        self.file = options.out / f"row-{row}.jsonl"
        if options.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.file.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text("utf-8").splitlines() if self.file.exists() else []
        self.results = [json.loads(line) for line in lines]
        self.count = options.count or (max(2, usual // 10) if options.quick else usual)
        self.end = time.monotonic() + 60 * options.minutes
        self.random = random.Random(f"{options.seed} {row} {len(lines)}")

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the remaining trials, until time runs out."""
        left = range(len(self.results), self.count)
        console = Console(stderr=True)
        for trial in track(left, f"row {self.row}", console=console, transient=True):
            if time.monotonic() > self.end:
                return
            yield trial

    def empty(self, name: str) -> Path:
        """Return the path of a folder of this row, which is deleted if it exists."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def add(self, passed: bool, **facts: object) -> None:
        """Append the result of one trial to the file."""
        self.results.append({"passed": passed, **facts})
        with naming(self.file), self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.results[-1]) + "\n")

    def report(self) -> bool:
        """Print the row; return whether all its trials passed."""
        passed = sum(one["passed"] for one in self.results)
        print(f"row {self.row}: tried {len(self.results)}, passed {passed}", flush=True)
        for one in self.results:
            if not one["passed"]:
                print(f"  failed: {one}")
        return passed == len(self.results) >= self.count
