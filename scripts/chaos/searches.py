"""Row 27: a search with Optuna is killed at random moments."""

from __future__ import annotations

import functools
import signal
import tempfile

from scripts.chaos.child import target
from scripts.chaos.sweeps import count_lines, killed
from scripts.chaos.trials import Options, Trials

STORAGES = ("journal", "sqlite")
KILLS = 20


@functools.cache
def undisturbed_search(storage: str) -> str:
    """Return the hash of the study, the table and the history of an undisturbed search."""
    with tempfile.TemporaryDirectory() as folder, target("search", folder, storage) as child:
        return child.wait_for("done")


def search(options: Options) -> bool:
    """Row 27: a search is killed 20 times; its study, table and history are equal."""
    trials = Trials(27, 6, options)
    for trial in trials:
        storage = STORAGES[trial % len(STORAGES)]
        folder, draw = trials.empty(f"{storage}-{trial}"), trials.random
        moments = [(draw.randrange(4), draw.uniform(0, 0.3)) for _ in range(KILLS)]
        codes = [killed(moment, "search", folder, storage) for moment in moments]
        with target("search", folder, storage) as child:
            code = child.wait()
        lines = count_lines(folder / "out")
        passed = (
            codes == [-signal.SIGKILL] * KILLS
            and code == 0
            and child.printed("done") == [undisturbed_search(storage)]
            and all(count == different for count, different in lines.values())
        )
        trials.add(passed, storage=storage, moments=moments, codes=[*codes, code], lines=lines)
    return trials.report()
