"""Rows of reliability that are about sweeps: 10 and 25."""

from __future__ import annotations

import csv
import functools
import json
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from _tally import Options, Tally
from _victims import victim

KILLS = 3


def diverge(options: Options) -> bool:
    """Row 10: every member ends in NaN; the exit code is not 0, and the table is written."""
    tally = Tally(10, 3, options)
    for trial in tally.trials():
        folder = tally.folder / f"sweep-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        with victim("sweep", folder, "nan") as one:
            code = one.end()
        rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
        statuses = [row["status"] for row in rows]
        named = "AllFailed" in "".join(one.lines)
        survived = code != 0 and named and len(rows) > 0 and set(statuses) == {"diverged"}
        tally.add(survived, code=code, rows=len(rows), named=named)
    return tally.report()


@functools.cache
def whole() -> str:
    """Hash of the table and the history of a sweep that nobody hurts."""
    with tempfile.TemporaryDirectory() as folder, victim("sweep", folder) as one:
        return one.until("done")


def resume(options: Options) -> bool:
    """Row 25: a sweep is killed 3 times; no trial is lost, none is twice, the table is equal."""
    tally = Tally(25, 5, options)
    for trial in tally.trials():
        folder = tally.folder / f"sweep-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        moments = [(tally.random.randrange(8), tally.random.uniform(0, 0.3)) for _ in range(KILLS)]
        codes = [killed(folder, *moment) for moment in moments]
        with victim("sweep", folder) as one:
            code = one.end()
        found = counts(folder)
        survived = codes == [-signal.SIGKILL] * KILLS and code == 0
        survived = survived and one.said("done") == [whole()]
        survived = survived and all(each == different for each, different in found.values())
        tally.add(survived, moments=moments, codes=[*codes, code], found=found)
    return tally.report()


def killed(folder: Path, segments: int, seconds: float) -> int:
    """Kill a sweep some seconds after it has said so many segments; 0: after it has begun."""
    with victim("sweep", folder) as one:
        one.until("ready")
        for _ in range(segments):
            one.until("at")
        time.sleep(seconds)
        one.process.kill()
        return one.end()


def counts(folder: Path) -> dict[str, Any]:
    """Of every file, how many lines it has and how many different ones by what they are about."""

    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / name).read_text().splitlines()]

    trials, history = lines("trials.jsonl"), lines("metrics.jsonl")
    table = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    return {
        "trials.jsonl": (len(trials), len({row["id"] for row in trials})),
        "metrics.jsonl": (len(history), len({(row["id"], row["step"]) for row in history})),
        "results.csv": (len(table), len({row["id"] for row in table} & {r["id"] for r in trials})),
    }
