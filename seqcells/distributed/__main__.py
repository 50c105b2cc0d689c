"""The command line: `python -m seqcells.distributed [options] SCRIPT [arguments of SCRIPT]`."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from pathlib import Path

from seqcells import distributed

_DESCRIPTION = """Run a script as one of several processes. Use the same command in all of them.
Under Slurm, Open MPI 4 and Kubernetes no option is needed; elsewhere give the first three."""


def main(arguments: list[str]) -> None:
    """Connect to the other processes, run the script, and wait for all; a failure exits at once."""
    options = _parser().parse_args(arguments)
    try:
        distributed.initialize(
            options.coordinator,
            options.process_id,
            options.num_processes,
            heartbeat_seconds=options.heartbeat_seconds,
            hang_seconds=options.hang_seconds,
        )
    except (TypeError, ValueError) as error:
        sys.exit(str(error))
    sys.argv = [options.script, *options.arguments]
    sys.path[0] = str(Path(options.script).resolve().parent)  # as Python does
    code = _run(options.script)
    if code:  # a clean exit would wait for the others; the missing heartbeat ends them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    distributed.wait("end")


def _run(script: str) -> int:
    """Run a script; return its exit code."""
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
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--process-id", type=int, metavar="I", help="index of this process, from 0")
    parser.add_argument("--num-processes", type=int, metavar="N", help="number of processes")
    parser.add_argument(
        "--heartbeat-seconds", type=int, default=10, help="seconds until a silent process is dead"
    )
    parser.add_argument(
        "--hang-seconds",
        type=float,
        default=300.0,
        help="seconds without progress before a process exits",
    )
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
