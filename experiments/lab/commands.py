"""Command lines: known words, and options that tyro reads from fields of a dataclass."""

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
    """Return the message for an unknown word: the known words, and the closest one."""
    near = difflib.get_close_matches(got, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what}: expected {', '.join(known)}, got {got!r}.{hint}"


def read_options(
    kind: type[T], arguments: Sequence[str], program: str, text: str = "", default: T | None = None
) -> T:
    """Parse the options of a command; print a message and raise SystemExit if one is wrong.

    Args:
        kind: a dataclass. The help of an option is the comment or the docstring of its field, on
            one line, because tyro keeps line breaks.
        arguments: the words after the name of the command.
        program: the command as a user types it.
        text: the first paragraph of the help; the docstring of `kind` if not given.
        default: the values of options that are not given; the defaults of `kind` if None.
    """
    return tyro.cli(
        kind,
        args=arguments,
        prog=program,
        description=_wrapped(text or inspect.getdoc(kind) or ""),
        default=tyro.MISSING_NONPROP if default is None else default,
    )


def _wrapped(text: str) -> str:
    """Wrap a text to the terminal's width, indented, because tyro would join its lines again."""
    width = shutil.get_terminal_size().columns - 4
    return textwrap.indent(textwrap.fill(" ".join(text.split()), width), "  ")
