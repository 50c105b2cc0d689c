"""How much of a row of `chaos.py` is tried, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import track


@dataclasses.dataclass(frozen=True)
class _Options:
    """How much to try.

    Args:
        out: folder of the results.
        count: trials; 0 is as many as a row usually has, 3 diverging sweeps to 300 flips.
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


Options = Annotated[_Options, tyro.conf.OmitArgPrefixes]


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
