"""The start of several processes, with errors for a port in use and for missing processes.

JAX waits in C++ without a message, and aborts with a C++ stack trace if a process is missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator

from jax._src.distributed import global_state  # has the address before JAX waits

QUIET = 10.0  # seconds of waiting before the first message
GRACE = 60  # JAX's timeout is longer by these seconds, so that our error comes first


def check_port(address: str) -> None:
    """Raise unless this process can listen on the port of an address."""
    port = int(address.rpartition(":")[2])
    try:
        with socket.create_server(("", port)):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise taken(address) from None


def taken(address: str | None) -> ValueError:
    """Return the error for an address whose port another program uses."""
    return ValueError(
        f"coordinator: expected a free port, got {address}, which another program on this machine "
        "uses; give another port to all processes"
    )


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Exit with a one-line message unless the block ends within these seconds."""
    over = threading.Event()

    def watch() -> None:
        if over.wait(min(QUIET, seconds)):
            return
        if seconds > QUIET:
            me = f"process {global_state.process_id} of {global_state.num_processes}"
            where = f"at {global_state.coordinator_address}, {seconds:g} s at most"
            _print(f"{me} waits for the others {where}")
        if not over.wait(max(seconds - QUIET, 0)):
            _print(f"{_verdict()} after {seconds:g} s; start all of them with the same "
                   "coordinator, or raise the timeout")  # fmt: skip
            os._exit(1)

    thread = threading.Thread(target=watch, name="seqcells-start", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _verdict() -> str:
    """Return which processes are missing, as far as this process can know."""
    address, rank = global_state.coordinator_address or "", global_state.process_id
    expected = f"coordinator: expected {global_state.num_processes} processes at {address}, got"
    if rank == 0:
        return f"{expected} process 0 without one or more of the others"
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return f"{expected} process 0 and process {rank} without one or more of the others"
    except OSError as error:
        return f"{expected} no answer there from process 0 ({error.strerror or error})"


def _print(text: str) -> None:
    print(f"seqcells: {text}", file=sys.stderr, flush=True)
