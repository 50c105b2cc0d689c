"""The command line: `python -m benchmarks NAME`; `-h` lists the names."""

from __future__ import annotations

import sys

from rich.console import Console

from benchmarks import suites
from benchmarks.harness.benchmark import Command
from experiments.lab import (
    HELP,
    BadInput,
    discover,
    exit_code,
    load,
    print_list,
    read_options,
    say,
    unknown,
)

PROGRAM = "python -m benchmarks"
USAGE = f"""\
{PROGRAM}          list the benchmarks
{PROGRAM} NAME     run one
{PROGRAM} NAME -h  options of NAME"""


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    stopped = "Stopped. Finished groups are in the tables."
    return exit_code(lambda: run(*arguments), stopped)


def run(name: str = HELP[0], *options: str) -> None:
    """Run the command of this name, with its options."""
    known = discover(suites)
    if name in HELP:
        console = Console()
        print_list(console, known)
        say(console, f"\n{USAGE}")
        return
    if name not in known:
        raise BadInput(unknown("benchmark", name, known))
    command = load(name, suites, Command)[1]
    command.run(read_options(command.settings, options, f"{PROGRAM} {name}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
