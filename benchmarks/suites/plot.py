"""The pictures of the tables that are kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from benchmarks import suites
from benchmarks.harness import machine
from benchmarks.harness.benchmark import RESULTS, Benchmark, Command, find_commands
from experiments.lab import BadInput, say, writable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Draw the pictures again from the tables."""

    cores: int = 1
    """number of cores with which the tables were measured"""
    results: Path = RESULTS
    """folder of the tables; those of the repository are in benchmarks/results, by processor"""
    out: Path = RESULTS
    """folder of the pictures; those of the repository are in docs"""


class Plot(Command[Settings]):
    """Draws the picture of every benchmark that has one."""

    def run(self, settings: Settings) -> None:
        """Draw a picture of each table that exists."""
        where, drawn = machine.cpu(settings.cores), False
        for benchmark in find_commands(suites).values():
            if isinstance(benchmark, Benchmark) and benchmark.picture:
                path = settings.results / f"{benchmark.name}-{where}.csv"
                if rows := benchmark.read(path):
                    picture = writable(settings.out) / benchmark.picture.file
                    benchmark.picture.draw(rows, picture)
                    say(Console(), f"{picture}, of {path}")
                    drawn = True
        if not drawn:
            raise BadInput(
                f"results: expected peers-{where}.csv in {settings.results}, found none; make it "
                f"with python -m benchmarks peers --cores {settings.cores}"
            )


COMMAND = Plot(name="plot", settings=Settings)
