"""A command: what each file of `benchmarks.suites` exports."""

from __future__ import annotations

import abc
import dataclasses
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(abc.ABC, Generic[S]):
    """A subcommand of `python -m benchmarks`.

    Args:
        name: how it is called on the command line.
        settings: a dataclass of its options; the docstrings of the class and of its fields are the
            help text.
    """

    name: str
    settings: type[S]

    @abc.abstractmethod
    def run(self, settings: S) -> None:
        """Run it.

        Raises:
            BadInput: if a setting or a file is wrong; its message is printed without a traceback.
        """
