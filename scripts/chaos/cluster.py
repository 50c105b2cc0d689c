"""Rows 2 and 3: two processes, of which one dies or hangs."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.chaos.child import Child, children
from scripts.chaos.trials import Options, Trials

RANK = Path(__file__).with_name("rank.py")
COUNT = 2
HEARTBEAT, HANG = 5, 30  # seconds


@contextlib.contextmanager
def cluster(folder: Path, hang: str = "never", rank: int = 0) -> Iterator[list[Child]]:
    """Run `rank.py` in both processes; they are killed when the context exits."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    joins = (f"--coordinator=localhost:{port}", f"--num-processes={COUNT}")
    limits = (f"--heartbeat-seconds={HEARTBEAT}", f"--hang-seconds={HANG}")
    launcher = (sys.executable, "-m", "seqcells.distributed", *joins, *limits)
    arguments = (RANK, folder, hang, rank)
    commands = [[*launcher, f"--process-id={index}", *arguments] for index in range(COUNT)]
    with children(commands) as running:
        yield running


def last_end(running: list[Child]) -> float:
    """Return the time at which the last process ended."""
    return max(child.ended for child in running if child.ended is not None)


def finish(folder: Path) -> list[str]:
    """Run to the end; return the results that the processes print."""
    with cluster(folder) as running:
        codes = [child.wait() for child in running]
    if any(codes):
        raise RuntimeError("\n".join(line for child in running for line in child.lines))
    return sorted(hash for child in running for hash in child.printed("done"))


def dead(options: Options) -> bool:
    """Row 2: kill -9 one of two processes; all exit within 30 s, and resume to an equal result."""
    trials = Trials(2, 10, options)
    with tempfile.TemporaryDirectory() as folder:
        expected = finish(Path(folder))
    for trial in trials:
        rank = trial % COUNT
        folder = trials.empty(f"run-{trial}")
        with cluster(folder) as running:
            running[rank].wait_for("saved")
            time.sleep(trials.random.uniform(0, 0.5))
            running[rank].process.send_signal(signal.SIGKILL)
            start = time.monotonic()
            codes = [child.wait() for child in running]
        seconds = last_end(running) - start
        equal = finish(folder) == expected
        facts = {"rank": rank, "codes": codes, "equal": equal}
        passed = seconds < 30 and 0 not in codes and equal
        trials.add(passed, **facts, seconds=round(seconds, 1))
    return trials.report()


def hung(options: Options) -> bool:
    """Row 3: one of two processes hangs; all exit within 60 s, and an error names its rank."""
    trials = Trials(3, 4, options)
    kinds = [(hang, rank) for hang in ("sleep", "locked") for rank in range(COUNT)]
    for trial in trials:
        hang, rank = kinds[trial % len(kinds)]
        folder = trials.empty(f"run-{trial}")
        with cluster(folder, hang, rank) as running:
            running[rank].wait_for("saved")
            start = time.monotonic()
            codes = [child.wait() for child in running]
        seconds = last_end(running) - start
        text = "\n".join(line for child in running for line in child.lines)
        named = re.findall(r"process ([\d, ]+) of 2 hangs", text)
        done = len(finish(folder)) == COUNT
        passed = seconds < 60 and 0 not in codes and set(named) == {str(rank)} and done
        facts = {"hang": hang, "rank": rank, "named": named, "codes": codes, "done": done}
        trials.add(passed, **facts, seconds=round(seconds, 1))
    return trials.report()
