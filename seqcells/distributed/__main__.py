"""The command line: `python -m seqcells.distributed [options] SCRIPT [arguments of SCRIPT]`."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from pathlib import Path

from seqcells import distributed

_DESCRIPTION = """Run a script as one of several processes, the same in all of them. Under Slurm,
Open MPI 4 and Kubernetes nothing else is needed; elsewhere give the first three options."""


def main(arguments: list[str]) -> None:
    """Join the other processes, run the script, and wait until all have; a failure ends at once."""
    given = _parser().parse_args(arguments)
    try:
        distributed.initialize(
            given.coordinator,
            given.process_id,
            given.num_processes,
            heartbeat_seconds=given.heartbeat_seconds,
            hang_seconds=given.hang_seconds,
        )
    except (TypeError, ValueError) as error:
        sys.exit(str(error))
    sys.argv = [given.script, *given.arguments]
    sys.path[0] = str(Path(given.script).resolve().parent)  # as Python has it
    code = _run(given.script)
    if code:  # the others learn it from the heartbeat: to part in peace would take all of them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    distributed.wait("end")


def _run(script: str) -> int:
    """Run it; return its exit code."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m seqcells.distributed", description=_DESCRIPTION)
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    parser.add_argument("--process-id", type=int, metavar="I", help="of this process, from 0")
    parser.add_argument("--num-processes", type=int, metavar="N", help="of all")
    parser.add_argument(
        "--heartbeat-seconds", type=int, default=10, help="until a silent process counts as dead"
    )
    parser.add_argument(
        "--hang-seconds", type=float, default=300.0, help="without progress that are too many"
    )
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
