"""The benchmarks: each file or folder here exports its command as `COMMAND`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from benchmarks.harness.benchmark import Command


def find_commands() -> dict[str, Command[Any]]:
    """Return the command of every file and folder of this package, by name."""
    names = [module.name for module in pkgutil.iter_modules(__path__, f"{__name__}.")]
    commands: list[Command[Any]] = [importlib.import_module(name).COMMAND for name in names]
    return {command.name: command for command in commands}
