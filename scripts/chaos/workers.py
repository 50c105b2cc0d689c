"""Row 26: workers of a sweep, its driver, or both are killed at random moments."""

from __future__ import annotations

import functools
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from scripts.chaos.child import PATIENCE, Child, target
from scripts.chaos.sweeps import count_lines
from scripts.chaos.trials import Options, Trials
from seqcells import sweep

ENGINES = ("pool", "dask", "submitit")
VICTIMS = ("worker", "driver", "both")
KILLS = 4  # of a sweep
STARTS = 12  # of its driver, at most


@functools.cache
def undisturbed_spread() -> str:
    """Return the hash of the table and the history of a run in one process."""
    with tempfile.TemporaryDirectory() as folder, target("spread", folder, "here") as child:
        return child.wait_for("done")


def workers(options: Options) -> bool:
    """Row 26: kill -9 of workers, driver, or both; the table is that of one process."""
    trials = Trials(26, 9, options)
    expected = undisturbed_spread()
    for trial in trials:
        engine = ENGINES[trial % len(ENGINES)]
        folder = trials.empty(f"{engine}-{trial}")
        victims = [VICTIMS[(trial // len(ENGINES) + i) % len(VICTIMS)] for i in range(KILLS)]
        kills, printed, codes = _disturbed(folder, engine, victims, trials.random)
        lines = count_lines(folder)
        once = all(count == different for count, different in lines.values())
        passed = printed == [expected] and once and len(kills) == KILLS
        trials.add(passed, engine=engine, kills=kills, codes=codes, lines=lines)
    print(f"row 26: {sum(len(one['kills']) for one in trials.results)} kills")
    return trials.report()


def _disturbed(
    folder: Path, engine: str, victims: list[str], draw: random.Random
) -> tuple[list[str], list[str], list[int]]:
    """Run a sweep, killing on the way; return the kills, what it printed, and all exit codes."""
    left, kills, codes = list(victims), list[str](), list[int]()
    while len(codes) < STARTS:
        with target("spread", folder, engine) as driver:
            while left and driver.ended is None:
                if _kill(folder, driver, left[0], draw):
                    kills.append(left.pop(0))
            codes.append(driver.wait())
            if codes[-1] == 0:
                return kills, driver.printed("done"), codes
    return kills, [], codes


def _kill(folder: Path, driver: Child, victim: str, draw: random.Random) -> bool:
    """Kill some time after a worker has begun; return whether it was still there."""
    end = time.monotonic() + PATIENCE
    while not _workers(folder) and driver.ended is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 1))
    found = _workers(folder)
    if not found or driver.ended is not None:
        return False
    chosen = draw.choice(found)
    if victim in ("worker", "both"):
        try:
            os.kill(chosen, signal.SIGKILL)
        except ProcessLookupError:
            return False
    if victim in ("driver", "both"):
        driver.process.kill()
        driver.wait()
    while victim == "worker" and driver.ended is None and chosen in _workers(folder):
        time.sleep(0.01)  # until another worker has its batch, or the pool is seen to be broken
    return True


def _workers(folder: Path) -> list[int]:
    """Return the processes that train a batch."""
    return [one.pid for one in sweep.workers(folder)]
