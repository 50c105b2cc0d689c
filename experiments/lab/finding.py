"""Discovery of studies and benchmarks: each is one file, which no list has to name."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from experiments.lab.settings import BadInput

T = TypeVar("T")


def discover(package: ModuleType) -> dict[str, str]:
    """Return the modules of a package by name, with the first line of their docstrings.

    Nothing is imported, so listing studies is fast.
    """
    (folder,) = package.__path__
    return {
        module.name: _first_line(Path(folder), module)
        for module in pkgutil.iter_modules([folder])
        if not module.name.startswith("_")
    }


def _first_line(folder: Path, module: pkgutil.ModuleInfo) -> str:
    path = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def is_path(name: str) -> bool:
    """Whether a name is the path of a Python file, not the name of a module."""
    return name.endswith(".py")


def load(name: str, package: ModuleType, kind: type[T]) -> tuple[ModuleType, T]:
    """Import a module and return it with the one value of a kind that it defines.

    Args:
        name: the name of a module in `package`, or the path of a Python file.
        package: the package of the modules.
        kind: the type of the value.

    Raises:
        BadInput: there is no such file, or not exactly one such value in it.
    """
    module = (
        _import_file(Path(name))
        if is_path(name)
        else importlib.import_module(f"{package.__name__}.{name}")
    )
    values = [value for value in vars(module).values() if isinstance(value, kind)]
    if len(values) != 1:
        raise BadInput(
            f"{kind.__name__.lower()}: expected one {kind.__name__} in {module.__file__}, "
            f"got {len(values)}; assign it to a name at the end of the file"
        )
    return module, values[0]


@functools.cache
def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"study: expected a Python file, got {path}, which does not exist")
    name = f"study_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up annotations there
    spec.loader.exec_module(module)
    return module
