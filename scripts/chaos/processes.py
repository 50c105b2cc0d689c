"""Rows 1, 4 and 7: a run that is killed, signalled or started twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from scripts.chaos.child import Child, latest, target, undisturbed
from scripts.chaos.model import CONFIG
from scripts.chaos.trials import Options, Trials
from seqcells._checkpoint import Checkpoints


def kill(options: Options) -> bool:
    """Row 1: kill -9 at random moments; it resumes, and ends with an undisturbed run's hash."""
    trials = Trials(1, 20, options)
    folder = trials.folder / "run"
    expected, seconds = undisturbed()
    equal: list[bool] = []  # for every run that reached its end
    for _ in trials:
        while True:
            before = latest(folder)
            child = _run_until(folder, trials.random.uniform(0, seconds), expected, equal)
            code = child.wait()
            if code != 0:
                break  # otherwise it ended before it was killed, and the next process is a new run
        saved, found = int([before, *child.printed("saved")][-1]), latest(folder)
        passed = code == -signal.SIGKILL and found in (saved, saved + CONFIG["segment"])
        trials.add(passed, code=code, saved=saved, found=found)
    _run_until(folder, None, expected, equal)
    print(f"row 1: {sum(equal)} of {len(equal)} runs ended with the hash of the undisturbed one")
    return trials.report() and bool(equal) and all(equal)


def _run_until(folder: Path, moment: float | None, expected: str, equal: list[bool]) -> Child:
    """Run one process, killed after `moment` seconds unless None; compare the hash at the end."""
    with target("run", folder) as child:
        if moment is not None:
            child.wait_for("ready")
            time.sleep(moment)
            child.process.kill()
        if child.wait() == 0:
            equal.append(child.printed("done") == [expected])
            Checkpoints(folder, CONFIG).delete()
    return child


def signals(options: Options) -> bool:
    """Row 4: SIGTERM and SIGINT; it saves, and exits with 143 or 130 within a segment and 5 s."""
    trials = Trials(4, 10, options)
    for trial in trials:
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        folder = trials.empty(f"run-{trial}")
        with target("run", folder, 100_000) as child:
            child.wait_for("saved")
            start = time.monotonic()
            child.wait_for("saved")
            segment = time.monotonic() - start
            time.sleep(trials.random.uniform(0, segment))
            child.process.send_signal(number)
            start = time.monotonic()
            code = child.wait()
        seconds = time.monotonic() - start
        found, saved = latest(folder), int(child.printed("saved")[-1])
        passed = code == 128 + number and seconds < segment + 5 and found == saved
        times = {"segment": round(segment, 2), "seconds": round(seconds, 2)}
        trials.add(passed, signal=number, code=code, found=found, **times)
    return trials.report()


def twice(options: Options) -> bool:
    """Row 7: two runs in one folder; the second exits within 5 s, the first ends undisturbed."""
    trials = Trials(7, 3, options)
    expected, _ = undisturbed()
    for trial in trials:
        folder = trials.empty(f"run-{trial}")
        with target("run", folder) as first:
            first.wait_for("at")
            with target("run", folder) as second:
                second.wait_for("ready")
                start = time.monotonic()
                code = second.wait()
                seconds = time.monotonic() - start
            running = first.process.poll() is None
            first.wait()
        named = f"pid {first.process.pid} on" in "".join(second.printed("refused"))
        ended = first.printed("done") == [expected]
        passed = running and named and code == 1 and seconds < 5 and ended
        trials.add(passed, running=running, named=named, code=code, seconds=round(seconds, 2))
    return trials.report()
