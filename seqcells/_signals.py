"""Signals as a flag: a run that is told to stop ends its segment and saves first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a signal has come, and which; true if one has."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a process that ends by the signal returns: 143 for SIGTERM, 130 for SIGINT."""
        return 0 if self.signal is None else 128 + self.signal


@contextlib.contextmanager
def deferred() -> Iterator[Stop]:
    """Turn the first SIGTERM or SIGINT into a flag to read between segments.

    A second signal does what it did before. Elsewhere than in the main thread signals cannot be
    had, and the flag stays down.

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
