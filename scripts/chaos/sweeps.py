"""Rows 10 and 25: sweeps that diverge or are killed."""

from __future__ import annotations

import csv
import functools
import json
import signal
import tempfile
import time
from pathlib import Path

from scripts.chaos.child import target
from scripts.chaos.trials import Options, Trials
from seqcells._types import Json

KILLS = 3


def diverge(options: Options) -> bool:
    """Row 10: every trial ends in NaN; the exit code is not 0, and the table is written."""
    trials = Trials(10, 3, options)
    for trial in trials:
        folder = trials.empty(f"sweep-{trial}")
        with target("sweep", folder, "nan") as child:
            code = child.wait()
        rows = list(csv.DictReader((folder / "results.csv").read_text("utf-8").splitlines()))
        statuses = [row["status"] for row in rows]
        named = "AllFailed" in "".join(child.lines)
        passed = code != 0 and named and len(rows) > 0 and set(statuses) == {"diverged"}
        trials.add(passed, code=code, rows=len(rows), named=named)
    return trials.report()


@functools.cache
def undisturbed_sweep() -> str:
    """Return the hash of the table and the history of an undisturbed sweep."""
    with tempfile.TemporaryDirectory() as folder, target("sweep", folder) as child:
        return child.wait_for("done")


def resume(options: Options) -> bool:
    """Row 25: a sweep is killed 3 times; no trial is lost or duplicated, the table is equal."""
    trials = Trials(25, 5, options)
    for trial in trials:
        folder = trials.empty(f"sweep-{trial}")
        draw = trials.random
        moments = [(draw.randrange(8), draw.uniform(0, 0.3)) for _ in range(KILLS)]
        codes = [killed(moment, "sweep", folder) for moment in moments]
        with target("sweep", folder) as child:
            code = child.wait()
        lines = count_lines(folder)
        passed = (
            codes == [-signal.SIGKILL] * KILLS
            and code == 0
            and child.printed("done") == [undisturbed_sweep()]
            and all(count == different for count, different in lines.values())
        )
        trials.add(passed, moments=moments, codes=[*codes, code], lines=lines)
    return trials.report()


def killed(moment: tuple[int, float], *arguments: object) -> int:
    """Kill a target some seconds after a number of segments; return its exit code."""
    segments, seconds = moment
    with target(*arguments) as child:
        child.wait_for("ready")
        for _ in range(segments):
            child.wait_for("at")
        time.sleep(seconds)
        child.process.kill()
        return child.wait()


def count_lines(folder: Path) -> dict[str, tuple[int, int]]:
    """Return, for every file, the number of lines and of distinct subjects."""

    def lines(name: str) -> list[Json]:
        return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]

    trials, history = lines("trials.jsonl"), lines("metrics.jsonl")
    table = list(csv.DictReader((folder / "results.csv").read_text("utf-8").splitlines()))
    return {
        "trials.jsonl": (len(trials), len({row["id"] for row in trials})),
        "metrics.jsonl": (len(history), len({(row["id"], row["step"]) for row in history})),
        "results.csv": (len(table), len({row["id"] for row in table} & {r["id"] for r in trials})),
    }
