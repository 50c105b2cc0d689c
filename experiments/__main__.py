"""The command line: `python -m experiments [list | run NAME | report NAME]`."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

STUDIES = ("horizon",)  # modules of this package: Settings, run(settings, out, console)
USAGE = """\
python -m experiments                     list the studies
python -m experiments run NAME [--help]   run one; what is finished is not repeated
python -m experiments report NAME         draw its report again"""


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    console, errors = Console(), Console(stderr=True)
    (command, name), rest = [*arguments, "", ""][:2], arguments[2:]
    if command in ("", "list", "-h", "--help"):
        _list(console)
        return 0
    if command not in ("run", "report") or name not in STUDIES:
        what, came = ("study", name) if command in ("run", "report") else ("command", command)
        errors.print(f"{what}: there is no {came!r}. Studies: {', '.join(STUDIES)}.\n\n{USAGE}")
        return 2
    try:
        _do(command, name, rest, console)
    except (OSError, ValueError) as error:
        errors.print(f"{error}", style="red", highlight=False)
        return 1
    except KeyboardInterrupt:
        errors.print(f"Stopped. What is finished is kept: run {name} again to go on.")
        return 130
    return 0


def _do(command: str, name: str, rest: list[str], console: Console) -> None:
    """Run or report one study, with its own options."""
    use_all_cores()
    study = _module(name)
    folder = Annotated[Path, tyro.conf.arg(help="folder of the results")]
    fields: list[Any] = [("out", folder, dataclasses.field(default=Path("runs") / name))]
    if command == "run":
        settings = Annotated[study.Settings, tyro.conf.arg(name="")]
        fields.append(("settings", settings, dataclasses.field(default_factory=study.Settings)))
    options: Any = tyro.cli(
        dataclasses.make_dataclass("Options", fields),
        args=rest,
        prog=f"python -m experiments {command} {name}",
        description=study.__doc__,
    )
    if command == "run":
        study.run(options.settings, options.out, console)
    else:
        study.report(options.out, console)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.{name}")


def _list(console: Console) -> None:
    table = Table("study", "what it measures")
    for name in STUDIES:
        table.add_row(name, (_module(name).__doc__ or "").splitlines()[0])
    console.print(table)
    console.print(USAGE, highlight=False)


def use_all_cores() -> None:
    """Make a CPU device of every core: two scans do not overlap on one device."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
