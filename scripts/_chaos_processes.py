"""Rows of reliability that end or double a process: 1, 4 and 7."""

from __future__ import annotations

import shutil
import signal
import time
from typing import Any

from _tally import Options, Tally
from _victim import CONFIG
from _victims import latest, unbroken, victim
from _watched import Watched

from seqcells._checkpoint import Checkpoints


def kill(options: Options) -> bool:
    """Row 1: kill -9 at random moments; it goes on, and ends with the hash of an unbroken run."""
    tally = Tally(1, 20, options)
    folder = tally.folder / "run"
    whole, seconds = unbroken()
    equal: list[bool] = []

    def live(moment: float | None) -> Watched:
        """One process, killed at a moment or not."""
        with victim("run", folder) as one:
            if moment is not None:
                one.until("ready")
                time.sleep(moment)
                one.process.kill()
            if one.end() == 0:
                equal.append(one.said("done") == [whole])
                Checkpoints(folder, CONFIG).delete()
        return one

    def one_kill() -> dict[str, Any]:
        """Kill one process; if it has ended sooner, the next, which is of a new run."""
        while True:
            before, moment = latest(folder), tally.random.uniform(0, seconds)
            one = live(moment)
            if one.process.returncode != 0:
                saved = int([before, *one.said("saved")][-1])
                code, found = one.process.returncode, latest(folder)
                survived = code == -signal.SIGKILL and found in (saved, saved + CONFIG["segment"])
                return {"survived": survived, "code": code, "saved": saved, "found": found}

    for _ in tally.trials():
        tally.add(**one_kill())
    live(None)
    print(f"row 1: {sum(equal)} of {len(equal)} runs ended with the hash of the unbroken one")
    return tally.report(bool(equal) and all(equal))


def signals(options: Options) -> bool:
    """Row 4: SIGTERM and SIGINT; it saves and exits with 143 or 130 within a segment and 5 s."""
    tally = Tally(4, 10, options)
    for trial in tally.trials():
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        folder = tally.folder / f"run-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        with victim("run", folder, 100_000) as one:
            one.until("saved")
            begun = time.monotonic()
            one.until("saved")
            segment = time.monotonic() - begun
            time.sleep(tally.random.uniform(0, segment))
            one.process.send_signal(number)
            begun = time.monotonic()
            code = one.end()
        seconds = time.monotonic() - begun
        found = latest(folder)
        saved = int(one.said("saved")[-1])
        survived = code == 128 + number and seconds < segment + 5 and found == saved
        took = {"segment": round(segment, 2), "seconds": round(seconds, 2)}
        tally.add(survived, signal=number, code=code, found=found, **took)
    return tally.report()


def twice(options: Options) -> bool:
    """Row 7: two runs in one folder; the second exits within 5 s, the first ends as if alone."""
    tally = Tally(7, 3, options)
    whole, _ = unbroken()
    for trial in tally.trials():
        folder = tally.folder / f"run-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        with victim("run", folder) as first:
            first.until("at")
            with victim("run", folder) as second:
                second.until("ready")
                begun = time.monotonic()
                code = second.end()
                seconds = time.monotonic() - begun
            held = first.process.poll() is None
            first.end()
        named = f"pid {first.process.pid} on" in "".join(second.said("refused"))
        survived = held and named and code == 1 and seconds < 5 and first.said("done") == [whole]
        tally.add(survived, held=held, named=named, code=code, seconds=round(seconds, 2))
    return tally.report()
