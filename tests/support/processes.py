"""Several processes of one script on this machine, as a cluster would start them."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_parts(*parts):
    """Run the parts of one script in a process of its own, on a CPU."""
    done = subprocess.run(
        [sys.executable, "-c", "".join(parts)],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def by_hand(rank, count, port):
    """Options of one process of several."""
    at = f"--coordinator=localhost:{port}"
    return [at, f"--process-id={rank}", f"--num-processes={count}"], {}


def slurm(rank, count, port):
    """The environment that Slurm sets for one process of several."""
    return [], {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "JAX_COORDINATOR_PORT": str(port),
    }


def open_mpi(rank, count, port):
    """The environment that Open MPI 4 sets for one process of several."""
    return [], {
        "OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": str(count),
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
        "JAX_COORDINATOR_PORT": str(port),
    }


@contextlib.contextmanager
def started(count, script, *arguments, cluster=by_hand, options=()):
    """`count` processes of a script, which do not outlive the block."""
    port, env, running = free_port(), os.environ | {"JAX_PLATFORMS": "cpu"}, []
    try:
        for rank in range(count):
            joins, variables = cluster(rank, count, port)
            command = [sys.executable, "-m", "seqcells.distributed", *joins, *options, str(script)]
            running.append(
                subprocess.Popen(
                    [*command, *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    env=env | variables | {"PYTHONPATH": str(ROOT)},
                )
            )
        yield running
    finally:
        for one in running:
            one.kill()
            one.communicate()


def ended(running, seconds=120):
    """Wait for all; return exit codes, outputs and errors."""
    output = [one.communicate(timeout=seconds) for one in running]
    return [one.returncode for one in running], *map(list, zip(*output, strict=True))
