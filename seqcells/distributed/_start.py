"""The start of several processes: a taken port and a missing process are named.

JAX waits in C++ without a word, and aborts with a stack of C++ where a process is missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator

from jax._src.distributed import global_state  # it knows the cluster's address before it waits

QUIET = 10.0  # seconds of waiting without a word
GRACE = 60  # seconds that JAX has beyond ours, so that ours is the error


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
    """Return the error of an address whose port another program uses."""
    return ValueError(
        f"coordinator: expected a free port, got {address}, which another program of this machine "
        "listens on; give another port to all processes"
    )


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """End this process, with one line, unless the block ends within so many seconds."""
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
    """Say who is missing, as far as this process can know."""
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
