"""Signals turned into a flag, so that a run finishes its segment and saves before it exits."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """The signal that has arrived, if any; truthy if one has."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code of a process that ends by the signal: 143 for SIGTERM, 130 for SIGINT."""
        return 0 if self.signal is None else 128 + self.signal


@contextlib.contextmanager
def deferred() -> Iterator[Stop]:
    """Turn the first SIGTERM or SIGINT into a flag to read between segments.

    A second signal has its usual effect. Signals can be handled in the main thread only; in other
    threads the flag stays false.

    >>> with deferred() as stop:
    ...     for segment in range(3):
    ...         if stop:
    ...             break
    >>> stop.exit_code
    0
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, _: object) -> None:
        stop.signal = number
        restore()

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
