"""Rows 2 and 3 of `chaos.py`: two processes, of which one dies or hangs."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from _tally import Options, Tally
from _watched import Watched, watched

MEMBER = str(Path(__file__).with_name("_member.py"))
COUNT = 2
HEARTBEAT, HANG = 5, 30  # seconds
PATIENCE = 240.0  # seconds that a process may live
FORMS = ("fit", "sweep")


@contextlib.contextmanager
def members(*arguments: object) -> Iterator[list[Watched]]:
    """The processes of one run, which do not outlive its trial."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    joins = (f"--coordinator=localhost:{port}", f"--num-processes={COUNT}")
    limits = (f"--heartbeat-seconds={HEARTBEAT}", f"--hang-seconds={HANG}")
    launcher = (sys.executable, "-m", "seqcells.distributed", *joins, *limits)
    commands = [[*launcher, f"--process-id={rank}", MEMBER, *arguments] for rank in range(COUNT)]
    with watched(commands, PATIENCE) as running:
        yield running


def last(running: list[Watched]) -> float:
    """When the last of them ended."""
    return max(one.ended for one in running if one.ended is not None)


def whole(form: str, folder: Path) -> list[str]:
    """Run until it is done, and return what the processes say of the result."""
    with members(form, folder, "never", 0) as running:
        codes = [one.end() for one in running]
    if any(codes):
        raise RuntimeError("\n".join(line for one in running for line in one.lines))
    return sorted(line for one in running for line in one.lines if line.startswith("done"))


def dead(options: Options) -> bool:
    """Row 2: kill -9 one of two processes; all exit within 30 s, and run again end as unbroken."""
    tally = Tally(2, 10, options)
    with tempfile.TemporaryDirectory() as folder:
        unbroken = {form: whole(form, Path(folder) / form) for form in FORMS}
    for trial in tally.trials():
        form, rank = FORMS[trial % 2], trial // 2 % 2
        folder = _empty(tally.folder / f"run-{trial}")
        with members(form, folder, "never", 0) as running:
            running[rank].until("saved")
            time.sleep(tally.random.uniform(0, 0.5))
            running[rank].process.send_signal(signal.SIGKILL)
            begun = time.monotonic()
            codes = [one.end() for one in running]
        seconds = last(running) - begun
        equal = whole(form, folder) == unbroken[form]
        survived = seconds < 30 and 0 not in codes and equal
        tally.add(
            survived, form=form, rank=rank, codes=codes, seconds=round(seconds, 1), equal=equal
        )
    return tally.report()


def hung(options: Options) -> bool:
    """Row 3: one of two processes hangs; all exit within 60 s, and its rank is said."""
    tally = Tally(3, 4, options)
    kinds = [(how, rank) for how in ("sleep", "locked") for rank in range(COUNT)]
    for trial in tally.trials():
        form = "fit"  # where one waits for the other
        how, rank = kinds[trial % len(kinds)]
        folder = _empty(tally.folder / f"run-{trial}")
        with members(form, folder, how, rank) as running:
            running[rank].until("saved")
            begun = time.monotonic()
            codes = [one.end() for one in running]
        seconds = last(running) - begun
        text = "\n".join(line for one in running for line in one.lines)
        named = re.findall(r"process ([\d, ]+) of 2 hangs", text)
        done = len(whole(form, folder)) == COUNT
        survived = seconds < 60 and 0 not in codes and set(named) == {str(rank)} and done
        about = {"how": how, "rank": rank, "named": named, "codes": codes, "done": done}
        tally.add(survived, **about, seconds=round(seconds, 1))
    return tally.report()


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
