"""The command line: `python -m scripts.chaos ROW`, from the root of the repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import tyro

import scripts.chaos
from scripts.chaos.cluster import dead, hung
from scripts.chaos.files import changed, flip, full
from scripts.chaos.processes import kill, signals, twice
from scripts.chaos.sweeps import diverge, resume
from scripts.chaos.trials import Options

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
}


def every(options: Options) -> bool:
    """All rows, one after the other."""
    return all([row(options) for row in ROWS.values()])


def main() -> int:
    """Run the rows of the command line; return 0 if all trials passed."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # it starts sooner
    commands = {row.__name__: row for row in ROWS.values()}
    passed = tyro.extras.subcommand_cli_from_dict(
        {**commands, "all": every},
        prog="python -m scripts.chaos",
        description=scripts.chaos.__doc__,
    )
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
