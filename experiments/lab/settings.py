"""Checks of what a user gives: what was expected, what came, what to do, in one line."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


class BadInput(ValueError):
    """A setting or a file that the user can mend: the command line prints it, and no traceback."""


def whole(name: str, value: Any, least: int) -> None:
    """Raise unless `value` is an int of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(
            f"{name}: expected a whole number, at least {least}, got {value!r}; "
            f"give {option(name)} {least} or more"
        )


def positive(name: str, value: Any, example: float) -> None:
    """Raise unless `value` is a finite number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise BadInput(
            f"{name}: expected a finite number above 0, got {value!r}; "
            f"give {option(name)} {example:g}, for instance"
        )


def several(name: str, values: Any, example: str) -> None:
    """Raise unless `values` is a list or tuple with something in it."""
    if not isinstance(values, list | tuple) or not values:
        raise BadInput(
            f"{name}: expected one or more, got {values!r}; give {option(name)} {example}"
        )


def check_settings(settings: Any) -> None:
    """Check every setting by the kind of its default: a count, a positive number, or several."""
    for field in dataclasses.fields(settings):
        value: Any = getattr(settings, field.name)
        default: Any = field.default
        if isinstance(default, tuple):
            several(field.name, value, " ".join(map(str, default)))
        else:
            value, default = (value,), (default,)
        for one in value:
            if isinstance(default[0], int):
                whole(field.name, one, least=1)
            else:
                positive(field.name, one, default[0])


def option(name: str) -> str:
    """How the argument is typed on the command line."""
    return f"--{name.replace('_', '-')}"
