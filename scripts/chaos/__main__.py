"""The command line: `python -m scripts.chaos ROW`, from the root of the repository."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

import tyro

import scripts.chaos
from experiments import lab
from scripts.chaos.cluster import dead, hung
from scripts.chaos.files import changed, flip, full
from scripts.chaos.processes import kill, signals, twice
from scripts.chaos.searches import search
from scripts.chaos.sweeps import diverge, resume
from scripts.chaos.trials import Options
from scripts.chaos.workers import workers

ROWS: dict[int, Callable[[Options], bool]] = {
    1: kill,
    2: dead,
    3: hung,
    4: signals,
    5: full,
    6: flip,
    7: twice,
    8: changed,
    10: diverge,
    25: resume,
    26: workers,
    27: search,
}


STOPPED = "Stopped. Finished trials are kept, and the same command continues."


def every(options: Options) -> bool:
    """All rows, one after the other."""
    return all([row(options) for row in ROWS.values()])


def main(arguments: list[str]) -> int:
    """Run the rows of the command line; return 0 if all trials passed."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # for a faster start
    passed = []
    code = lab.exit_code(lambda: passed.append(run(arguments)), STOPPED)
    return code or int(passed != [True])


def run(arguments: list[str]) -> bool:
    """Run the rows of a line; return whether all trials passed."""
    rows = {row.__name__: row for row in ROWS.values()} | {"all": every}
    return tyro.extras.subcommand_cli_from_dict(
        {name: alone(row) for name, row in rows.items()},
        prog="python -m scripts.chaos",
        description=scripts.chaos.__doc__,
        args=arguments,
    )


def alone(row: Callable[[Options], bool]) -> Callable[[Options], bool]:
    """Return the row with its folder locked, so that no other call writes there."""

    @functools.wraps(row)
    def held(options: Options) -> bool:
        options.check()
        with lab.folders.hold(options.out, lab.folders.CHAOS):
            return row(options)

    return held


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
