"""The command line: `python -m benchmarks NAME`; `-h` lists the names."""

from __future__ import annotations

import sys

from rich.console import Console
from tyro.extras import subcommand_cli_from_dict

import benchmarks
from benchmarks import suites
from benchmarks.harness.benchmark import find_commands
from experiments.lab import BadInput, say


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    errors, commands = Console(stderr=True), find_commands(suites)
    settings = subcommand_cli_from_dict(
        {name: command.settings for name, command in commands.items()},
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        args=arguments,
    )
    try:
        next(c for c in commands.values() if c.settings is type(settings)).run(settings)
    except (BadInput, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise  # the user cannot mend it
        say(errors, str(error))
        return 1
    except KeyboardInterrupt:
        say(errors, "Stopped. The groups that are finished are in the tables.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
