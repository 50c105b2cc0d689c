"""The command line: `python -m benchmarks NAME`; `-h` lists the names."""

from __future__ import annotations

import sys

from tyro.extras import subcommand_cli_from_dict

import benchmarks
from benchmarks import suites
from benchmarks.harness.benchmark import find_commands
from experiments.lab import exit_code


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    stopped = "Stopped. The groups that are finished are in the tables."
    return exit_code(lambda: run(arguments), stopped)


def run(arguments: list[str]) -> None:
    """Run the command that a line names, with its options."""
    commands = find_commands(suites)
    settings = subcommand_cli_from_dict(
        {name: command.settings for name, command in commands.items()},
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        args=arguments,
    )
    next(c for c in commands.values() if c.settings is type(settings)).run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
