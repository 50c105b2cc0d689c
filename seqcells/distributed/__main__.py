"""The command line: `python -m seqcells.distributed [options] (SCRIPT | -m MODULE) [arguments]`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from seqcells import distributed

_DESCRIPTION = """Run a script or a module as one of several processes. Use the same command in all
of them. Under Slurm, Open MPI 4 and Kubernetes no option is needed; elsewhere give the first three.
"""


def main(arguments: list[str]) -> None:
    """Connect to the others, run the program, and wait for all; a failure exits at once."""
    options = vars(_parser().parse_args(arguments))
    run = _program(options.pop("module"), options.pop("script"))
    try:
        distributed.initialize(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        _refuse(str(error))
    code = _exit_code(run)
    if code:  # exit without waiting for the others; the missing heartbeat ends them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    distributed.wait("end")


def _refuse(text: str) -> None:
    print(text, file=sys.stderr)
    sys.exit(2)


def _program(module: list[str] | None, script: list[str]) -> Callable[[], object]:
    """Return a function that runs the program as Python does; exit if it does not exist."""
    name, *arguments = module or script or [""]
    if module:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            _refuse(f"-m: expected the name of a module, got {name!r}, which does not exist")
        sys.argv = ["-m", *arguments]
        return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)
    if not Path(name).exists() or not name:
        _refuse(f"script: expected a Python file or -m MODULE, got {name!r}, which does not exist")
    sys.argv = [name, *arguments]
    sys.path[0] = str(Path(name).resolve().parent)
    return lambda: runpy.run_path(name, run_name="__main__")


def _exit_code(run: Callable[[], object]) -> int:
    """Run a program; return its exit code."""
    try:
        run()
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
    usage = "python -m seqcells.distributed [options] (SCRIPT | -m MODULE) [arguments]"
    parser = argparse.ArgumentParser(usage=usage, description=_DESCRIPTION)
    add = parser.add_argument
    add("--coordinator", metavar="HOST:PORT", help="address of process 0")
    add("--process-id", type=int, metavar="I", help="index of this process, from 0")
    add("--num-processes", type=int, metavar="N", help="number of processes")
    seconds = {
        "timeout": (float, 300.0, "seconds to wait for the other processes at the start"),
        "heartbeat-seconds": (int, 10, "seconds until a silent process is dead"),
        "hang-seconds": (float, 300.0, "seconds without progress before a process exits"),
    }
    for name, (kind, default, text) in seconds.items():
        dest = "initialization_timeout" if name == "timeout" else name.replace("-", "_")
        text = f"{text} (default: {default:g})"
        add(f"--{name}", type=kind, default=default, metavar="SECONDS", help=text, dest=dest)
    add("-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE", help="run a module")
    add("script", nargs=argparse.REMAINDER, metavar="SCRIPT", help="run a script")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
