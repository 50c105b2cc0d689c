"""Command lines: the words that are known, and options read by tyro from fields of a dataclass."""

from __future__ import annotations

import difflib
import inspect
import shutil
import textwrap
from collections.abc import Collection, Sequence
from typing import TypeVar

import tyro

HELP = ("-h", "--help")
T = TypeVar("T")


def unknown(what: str, got: str, known: Collection[str]) -> str:
    """Say that a word is not known, which ones are, and which one is near."""
    near = difflib.get_close_matches(got, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what}: expected {', '.join(known)}, got {got!r}.{hint}"


def read_options(
    kind: type[T], arguments: Sequence[str], program: str, text: str = "", default: T | None = None
) -> T:
    """Read the options of a command; raise SystemExit, after a message, where one is wrong.

    Args:
        kind: a dataclass. The help of an option is the comment or the docstring of its field, which
            stands in one line, or tyro keeps the line break.
        arguments: what follows the name of the command.
        program: the command as a user types it.
        text: what the help begins with; the docstring of `kind` if not given.
        default: has the value of every option that is not given; the defaults of `kind` if None.
    """
    return tyro.cli(
        kind,
        args=arguments,
        prog=program,
        description=_wrapped(text or inspect.getdoc(kind) or ""),
        default=tyro.MISSING_NONPROP if default is None else default,
    )


def _wrapped(text: str) -> str:
    """Fill a text to the width of the terminal, indented, or tyro would join its lines again."""
    width = shutil.get_terminal_size().columns - 4
    return textwrap.indent(textwrap.fill(" ".join(text.split()), width), "  ")
