r"""Several processes: `jax.distributed`, which they meet by, a short heartbeat and a watchdog.

Under Slurm, Open MPI 4 and Kubernetes, and elsewhere by hand::

    python -m seqcells.distributed train.py
    python -m seqcells.distributed \
        --coordinator host0:1234 --process-id 0 --num-processes 2 train.py

A process that dies ends the others within the heartbeat; one that hangs is named and ends, and so
do they. Run again, they go on from what is on the disk.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

import jax
from jax._src.distributed import global_state  # its store has no public name; Orbax reads it too

from seqcells import _check
from seqcells.distributed._watchdog import Watchdog

__all__ = ["beat", "initialize", "wait"]

_watchdog: Watchdog | None = None
_meetings: collections.Counter[str] = collections.Counter()


def initialize(
    coordinator: str | None = None,
    process_id: int | None = None,
    num_processes: int | None = None,
    *,
    heartbeat_seconds: int = 10,
    hang_seconds: float = 300.0,
) -> None:
    """Join the other processes; call it before anything is computed.

    Under Slurm, Open MPI 4, Kubernetes and on TPUs JAX finds the first three by itself. Signals are
    then this program's to handle: JAX's own preemption service is switched off.

    Args:
        coordinator: "host:port" of process 0, the same in every process; None: of the cluster.
        process_id: of this process, from 0; None: of the cluster.
        num_processes: of all; None: of the cluster.
        heartbeat_seconds: after which a silent process counts as dead and all others end, too.
        hang_seconds: after which a process that has not made a `beat` ends, with code 1, having
            said on stderr which process is behind and where it stands. Longer than a segment, or
            the compilation of one, takes.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: an argument is out of range, or no cluster is found.
        RuntimeError: something has been computed before, or it is called a second time.
    """
    global _watchdog
    _check_given(coordinator, process_id, num_processes)
    heartbeat = _check.size("heartbeat_seconds", heartbeat_seconds, least=1)
    hang = _check_seconds("hang_seconds", hang_seconds)
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except ValueError as error:
        if global_state.client is not None or coordinator is not None:
            raise
        raise ValueError(
            "coordinator: expected one, or a cluster that JAX knows (Slurm, Open MPI 4, "
            f"Kubernetes), got neither ({error}); give coordinator, process_id and num_processes, "
            "or run one process without this"
        ) from error
    _watchdog = Watchdog(global_state.client, global_state.process_id, _processes(), hang)


def beat() -> None:
    """Say that this process goes on; `train.fit` and `sweep.run` do so twice a segment.

    Does nothing in a process that has not joined others.
    """
    if _watchdog is not None:
        _watchdog.beat()


def wait(name: str, each: Callable[[], object] = lambda: None) -> None:
    """Wait until every process has come to this call; where there is but one, go on.

    Args:
        name: of the meeting, the same in every process.
        each: called a few times a second; what it raises ends the wait.
    """
    if global_state.client is None:
        return
    _meetings[name] += 1
    place = f"seqcells/wait/{name}/{_meetings[name]}/"
    global_state.client.key_value_set(f"{place}{global_state.process_id}", "")
    while len(global_state.client.key_value_dir_get(place)) < _processes():
        each()
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
            f"expected coordinator, process_id and num_processes together, or none of them where "
            f"a cluster has them, got {shown}"
        )
    if not isinstance(coordinator, str) or not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"coordinator: expected 'host:port' of process 0, got {coordinator!r}")
    count = _check.size("num_processes", num_processes, least=1)
    if _check.size("process_id", process_id, least=0) >= count:
        raise ValueError(
            f"process_id: expected an int below num_processes={count}, got {process_id}"
        )


def _check_seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ValueError(f"{name}: expected seconds, above 0 and below 1e6, got {value!r}")
    return float(value)
