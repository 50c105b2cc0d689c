"""Settings: checked when they are made, and restored from the file of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


class BadInput(Exception):
    """A setting or a file that the user can correct; the command line prints it in one line.

    It is not a ValueError, because tyro would print that in a box.
    """


class BadValue(BadInput, ValueError):
    """A value that was typed as text and cannot be read."""


def whole(name: str, value: object, least: int) -> None:
    """Raise unless `value` is an int of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(
            f"{name}: expected a whole number, at least {least}, got {value!r}; "
            f"give {option(name)} {least} or more"
        )


def positive(name: str, value: object, example: float) -> None:
    """Raise unless `value` is a finite number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if not number or value == math.inf:
        raise BadInput(
            f"{name}: expected a finite number above 0, got {value!r}; "
            f"give {option(name)} {example:g}, for instance"
        )


def several(name: str, values: object, example: str) -> None:
    """Raise unless `values` is a nonempty list or tuple without duplicates."""
    if not isinstance(values, list | tuple) or not values:
        raise BadInput(
            f"{name}: expected one or more, got {values!r}; give {option(name)} {example}"
        )
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise BadInput(f"{name}: expected different values, got {twice[0]!r} twice; leave one out")


def known(name: str, values: Iterable[object], choices: Iterable[object]) -> None:
    """Raise unless all values are among the choices."""
    choices = list(choices)
    for value in values:
        if value not in choices:
            names = ", ".join(map(repr, choices))
            raise BadInput(f"{name}: expected some of {names}, got {value!r}; choose these")


@dataclasses.dataclass(frozen=True)
class CheckedSettings:
    """Settings that are checked by their defaults.

    A number must be a count or a positive number, like its default; a tuple must not be empty,
    unless its default is; a dataclass holds further settings. Counts are at least 1, or
    `metadata["least"]` of their field.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, default = getattr(self, field.name), getattr(type(self), field.name)
            _check(field.name, value, default, field.metadata.get("least", 1))


def _check(name: str, value: Any, default: Any, least: int = 1) -> None:
    if dataclasses.is_dataclass(default):
        kind = type(default)
        if not isinstance(value, kind):
            kind = kind.__name__
            raise BadInput(f"{name}: expected a {kind}, got {value!r}; give {kind}(...)")
        for field in dataclasses.fields(default):
            path, one = f"{name}.{field.name}", getattr(value, field.name)
            _check(path, one, getattr(default, field.name))
    elif isinstance(default, tuple) and default:
        several(name, value, shlex.join(map(str, default)))
        for one in value:
            _check(name, one, default[0], least)
    elif isinstance(default, int) and not isinstance(default, bool):
        whole(name, value, least)
    elif isinstance(default, float):
        positive(name, value, default)


@contextlib.contextmanager
def refusals(settings: DataclassInstance) -> Iterator[None]:
    """Turn argument errors of the library into `BadInput`, with the options that were given.

    Such an error begins with `name: expected`. The options are those that have the value which the
    error got, those with several values first; there may be none.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not re.match(r"[\w.]+(, [\w.]+)*: expected ", str(error)):
            raise
        raise BadInput(f"{_options_of(str(error), settings)}{error}") from None


def _options_of(error: str, settings: DataclassInstance) -> str:
    """Return the options that have the value which an error got, and a colon."""
    got = re.findall(r"got ([^\s;,]+)", error)[:1]
    names: dict[bool, list[str]] = {True: [], False: []}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        several = isinstance(value, tuple)
        if got and got[0] in map(str, value if several else (value,)):
            names[several].append(option(field.name))
    found = names[True] or names[False]
    return f"{' or '.join(found)}: " if found else ""


def restore(default: S, kept: Mapping[str, object]) -> S:
    """Return the settings that were stored as JSON.

    Args:
        default: determines types, and the values of fields that were not stored.
        kept: the fields by name; fields that `default` does not have are ignored.

    Raises:
        BadInput: the settings check their fields and one is out of range.
    """
    names = {field.name for field in dataclasses.fields(default)} & set(kept)
    values = {name: _restore_field(getattr(default, name), kept[name]) for name in names}
    return dataclasses.replace(default, **values)


def _restore_field(default: object, value: object) -> object:
    if dataclasses.is_dataclass(default) and isinstance(value, Mapping):
        return restore(default, value)  # pyright: ignore[reportArgumentType] - an instance, not a type
    return tuple(value) if isinstance(value, list) else value


def option(name: str) -> str:
    """Return the option's name on the command line."""
    return f"--{name.replace('_', '-')}"
