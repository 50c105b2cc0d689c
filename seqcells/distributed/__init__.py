r"""Several processes: `jax.distributed` connects them, with a short heartbeat and a watchdog.

Under Slurm, Open MPI 4 and Kubernetes, and by hand elsewhere::

    python -m seqcells.distributed train.py
    python -m seqcells.distributed \
        --coordinator host0:1234 --process-id 0 --num-processes 2 train.py

If a process dies, the others exit within the heartbeat. If a process hangs, an error names it and
all processes exit. When started again, they continue from the last checkpoint.
"""

from __future__ import annotations

import collections
import math
import time

import jax
from jax._src.distributed import global_state  # the store has no public name; Orbax uses it too

from seqcells import _check
from seqcells.distributed import _start
from seqcells.distributed._watchdog import Watchdog

__all__ = ["beat", "initialize", "wait"]

_watchdog: Watchdog | None = None
_barriers: collections.Counter[str] = collections.Counter()


def initialize(
    coordinator: str | None = None,
    process_id: int | None = None,
    num_processes: int | None = None,
    *,
    initialization_timeout: float = 300.0,
    heartbeat_seconds: int = 10,
    hang_seconds: float = 300.0,
) -> None:
    """Connect to the other processes; call it before any computation.

    Under Slurm, Open MPI 4, Kubernetes and on TPUs JAX finds the first three arguments itself.
    JAX's own preemption service is switched off, so that the program can handle signals.

    Args:
        coordinator: "host:port" of process 0, the same in every process; None asks the cluster.
        process_id: index of this process, from 0; None asks the cluster.
        num_processes: number of processes; None asks the cluster.
        initialization_timeout: seconds to wait for the others; then the process exits with code 1
            and a line on stderr that names the missing processes, as far as they are known.
        heartbeat_seconds: seconds after which a silent process counts as dead and the others exit.
        hang_seconds: seconds without a `beat` after which a process exits with code 1; stderr names
            the process that is behind, and shows the stack. Set it longer than a segment plus
            compilation.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, another program uses the port, or there is no
            cluster.
        RuntimeError: it is called after a computation, or twice.
    """
    global _watchdog
    _check_given(coordinator, process_id, num_processes)
    heartbeat = _check.size("heartbeat_seconds", heartbeat_seconds, least=1)
    hang = _check_seconds("hang_seconds", hang_seconds)
    timeout = _check_seconds("initialization_timeout", initialization_timeout)
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM
    if process_id == 0 and coordinator is not None and global_state.client is None:
        _start.check_port(coordinator)
    try:
        with _start.patience(timeout):
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=math.ceil(timeout) + _start.GRACE,
                heartbeat_timeout_seconds=heartbeat,
                shutdown_timeout_seconds=heartbeat,
            )
    except ValueError as error:
        if global_state.client is not None or coordinator is not None:
            raise
        raise ValueError(
            "coordinator: expected one, or a cluster that JAX knows (Slurm, Open MPI 4, "
            f"Kubernetes), got neither ({error}); give coordinator, process_id and num_processes, "
            "or leave this call out for a single process"
        ) from error
    except RuntimeError as error:
        if "RPC server" in str(error):
            raise _start.taken(global_state.coordinator_address) from None
        raise
    assert global_state.client is not None
    _watchdog = Watchdog(global_state.client, global_state.process_id, _processes(), hang)


def beat() -> None:
    """Report progress to the watchdog; `train.fit` does so twice per segment.

    Does nothing without `initialize`.
    """
    if _watchdog is not None:
        _watchdog.beat()


def wait(name: str) -> None:
    """Wait until every process has reached this call; return at once if there is one process.

    Args:
        name: the name of the barrier, the same in every process.
    """
    if global_state.client is None:
        return
    _barriers[name] += 1
    prefix = f"seqcells/wait/{name}/{_barriers[name]}/"
    global_state.client.key_value_set(f"{prefix}{global_state.process_id}", "")
    while len(global_state.client.key_value_dir_get(prefix)) < _processes():
        beat()
        time.sleep(0.2)


def _processes() -> int:
    return global_state.num_processes


def _check_given(coordinator: object, process_id: object, num_processes: object) -> None:
    given = (coordinator, process_id, num_processes)
    if given == (None, None, None):
        return
    if None in given:
        shown = f"coordinator={coordinator!r}, process_id={process_id}, {num_processes=}"
        raise ValueError(
            f"expected coordinator, process_id and num_processes together, or none of them on a "
            f"cluster, got {shown}"
        )
    host, _, port = coordinator.rpartition(":") if isinstance(coordinator, str) else ("", "", "")
    if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError(
            "coordinator: expected 'host:port' of process 0, with a port below 65536, got "
            f"{coordinator!r}"
        )
    count = _check.size("num_processes", num_processes, least=1)
    if _check.size("process_id", process_id, least=0) >= count:
        raise ValueError(
            f"process_id: expected an int below num_processes={count}, got {process_id}"
        )


def _check_seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ValueError(f"{name}: expected seconds, above 0 and below 1e6, got {value!r}")
    return float(value)
