"""What large sweeps cost to plan and to read: `python scripts/sweep_size.py`.

Writes the folder of a finished sweep with the code of the store, without training anything. Then
measures, each in a process of its own: `sweep.load`, the status, and the plan of more trials.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqcells import sweep
from seqcells._types import Json
from seqcells.sweep._job import buckets, cut
from seqcells.sweep._lines import Row
from seqcells.sweep._part import Part
from seqcells.sweep._plan import Plan
from seqcells.sweep._store import Folder

SEEDS, GAINS, SIZES = 10, 10, (16, 32)
STEP = 100  # steps of a segment
PARTS = ("write", "load", "status", "plan")
BATCH = 1000  # trials whose lines are written at once


def space(trials: int) -> sweep.Space:
    """Return a space of this many trials, a multiple of 400; that of `about`."""
    return sweep.Space(
        learning_rate=sweep.log(1e-4, 1e-1, trials // (SEEDS * GAINS * len(SIZES))),
        max_norm=[1.0],
        weight_decay=[0.0],
        init_gain=sweep.linear(0.5, 2, GAINS),
        seed=range(SEEDS),
        static={"cell": ["gru"], "hidden_size": SIZES, "length": [20], "batch_size": [32]},
    )


def about(trials: int, segments: int) -> Json:
    """Return the `run.json` of the command line."""
    swept = {
        "learning_rate": f"log:1e-4:1e-1:{trials // (SEEDS * GAINS * len(SIZES))}",
        "init_gain": f"linear:0.5:2:{GAINS}",
    }
    settings = {"sweep": swept, "static": {"hidden_size": SIZES}, "seeds": SEEDS}
    settings |= {"steps": STEP * segments, "segment": STEP}
    return {"probe": "copy", "command": "a sweep", "settings": settings}


def make(**static: object) -> sweep.Task:
    """Stand for the task, which is not trained."""
    raise NotImplementedError


def write(out: Path, trials: int, segments: int, open_share: float) -> None:
    """Write a sweep, finished but for a share of its trials, as a run writes it."""
    (out / "run.json").write_text(json.dumps(about(trials, segments)), encoding="utf-8")
    plan = Plan.of(
        make=make,
        steps=STEP * segments,
        segment=STEP,
        metric="loss",
        mode="min",
        batch="auto",
        halving=None,
        pbt=None,
        key=None,
        save_seconds=60.0,
    )
    every, rng = space(trials).trials(), np.random.default_rng(0)
    left = {trial.id for trial in every[len(every) - round(open_share * len(every)) :]}
    with (store := Folder(out, plan.settings({"probe": "copy"}))).locked():
        for bucket in buckets(every):
            store.fix_width(bucket[0].bucket, BATCH, len(bucket))
            for job in cut(bucket, BATCH):
                _write_batch(store, [t.id for t in job.trials], segments, rng, left)


def _write_batch(
    store: Folder, ids: Sequence[str], segments: int, rng: np.random.Generator, left: set[str]
) -> None:
    part, metrics = Part(), list[dict[str, float]]()
    for segment in range(1, segments + 1):
        values = rng.lognormal(size=(len(ids), 2)).tolist()
        metrics = [{"grad_norm": norm, "loss": loss} for norm, loss in values]
        step = STEP * segment
        part.log([{"id": i, "step": step, "metrics": m} for i, m in zip(ids, metrics, strict=True)])
    rows: list[Row] = [
        {"id": i, "status": "done", "steps": STEP * segments, "metrics": m, "seconds": 0.1}
        for i, m in zip(ids, metrics, strict=True)
        if i not in left
    ]
    part.record(rows)
    store.collect(part)


def do(part: str, out: Path, args: argparse.Namespace) -> None:
    """Do one part in this process, and print its seconds and the most memory of the process."""
    if part == "status":  # the time of imports is that of the command
        console = importlib.import_module("rich.console").Console()
        status = importlib.import_module("experiments.sweep.report").status
    trials = args.planned if part == "plan" else args.trials
    start, cpu = time.perf_counter(), time.process_time()
    if part == "write":
        write(out, trials, args.segments, args.unfinished)
    elif part == "load":
        result = sweep.load(out, space(trials))
        assert (len(result.rows), len(result.history)) == (trials, trials * args.segments)
    elif part == "status":
        status(out, console)
    else:  # what a run does before it trains
        left: dict[str, Row] = {}
        for bucket in buckets(space(trials).trials()):
            _ = [trial for trial in bucket if trial.id not in left]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{part}, {trials:,} trials: {seconds:.2f} s ({cpu:.2f} s of CPU), at most {peak:.0f} MiB"
    )


def main() -> None:
    """Do every part, each in a process of its own, and time the command `status`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=10)
    parser.add_argument("--planned", type=int, default=1_000_000)
    parser.add_argument("--unfinished", type=float, default=0.0, help="the share of the trials")
    parser.add_argument("--out", type=Path, help="a folder to keep, or one that was kept")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        do(args.part, args.out, args)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        out.mkdir(exist_ok=True)
        for part in PARTS:
            if part != "write" or not (out / "run.json").exists():
                command = [sys.executable, *sys.argv, "--out", out, "--part", part]
                subprocess.run(command, check=True)
        start = time.perf_counter()
        command = [sys.executable, "-m", "experiments", "status", out]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"python -m experiments status: {time.perf_counter() - start:.2f} s")
        print(importlib.import_module("experiments.lab").processor())


if __name__ == "__main__":
    main()
