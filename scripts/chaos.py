"""Hurt small runs and sweeps, and see that nothing is lost: rows of docs/reliability.md.

    pip install 'seqcells[sweep]' tyro rich
    python scripts/chaos.py all --quick
    python scripts/chaos.py kill --count 100 --minutes 20

kill (row 1), dead (2), hung (3), signals (4), full (5), flip (6), twice (7), changed (8), diverge
(10) and resume (25) print what they tried and what survived, and exit with 1 unless that is all.
Every trial is a line of OUT/row-N.jsonl: where it was stopped, the same command goes on; --fresh
starts anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import tyro
from _chaos_cluster import dead, hung
from _chaos_files import changed, flip, full
from _chaos_processes import kill, signals, twice
from _chaos_sweeps import diverge, resume
from _tally import Options

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
    """Run what is asked for; 0 where all survived."""
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # it starts sooner
    commands = {row.__name__: row for row in ROWS.values()}
    return int(not tyro.extras.subcommand_cli_from_dict({**commands, "all": every}))


if __name__ == "__main__":
    sys.exit(main())
