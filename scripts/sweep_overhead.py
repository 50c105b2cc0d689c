"""The overhead of segments, and of batches, in a sweep: `python scripts/sweep_overhead.py`.

Trains GRUs on a sequence of sines with `sweep.from_loss`, as one program: all steps in one segment,
and in many segments, with the log in a folder between them. The two are timed alternately. Then
trains several batches, in one process and by one worker, each on one core: the time from the end of
a batch to that of the next, less the training of it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks.suites.workers import make
from seqcells import sweep
from seqcells.sweep._batch import Batch, columns
from seqcells.sweep._job import Job
from seqcells.sweep._part import Part, PartFolder
from seqcells.sweep._program import build
from seqcells.sweep._store import Folder

BATCHES = 8


def measure(steps: int, segment: int, trials: int, repeats: int) -> tuple[float, float]:
    """Return the median seconds of one long scan and of the segments."""
    space = sweep.Space(learning_rate=sweep.log(1e-4, 1e-2, trials)).trials()

    def timed(length: int) -> Callable[[], float]:
        program = build(make(16), columns(space), trials, length, "loss", jax.random.key(0))

        def once() -> float:
            with tempfile.TemporaryDirectory() as folder:
                job = Job(space, trials)
                part = PartFolder(Path(folder), {}, job.about)
                batch = Batch.begin(program, space)
                jax.block_until_ready(batch.state)
                start = time.perf_counter()
                while batch.step < steps:
                    part.log(batch.advance(length))
                return time.perf_counter() - start

        return once

    pair = timed(steps), timed(segment)
    seconds = np.asarray([[one() for one in pair] for _ in range(repeats + 1)][1:])
    return statistics.median(seconds[:, 0]), statistics.median(seconds[:, 1])


def between_batches(steps: int, segment: int, trials: int, worker: bool) -> tuple[float, float]:
    """Return the median seconds between batches, and those of training one."""
    space = sweep.Space(learning_rate=sweep.log(1e-4, 1e-2, trials), seed=range(BATCHES))
    times, collect = list[tuple[float, float]](), Folder.collect

    def seen(self: Folder, part: Part) -> None:
        seconds = sum(row["seconds"] for row in part.rows)
        collect(self, part)
        times.append((time.perf_counter(), seconds))

    given = {"segment": segment, "batch": trials}
    with tempfile.TemporaryDirectory() as out, contextlib.ExitStack() as stack:
        stack.callback(setattr, Folder, "collect", collect)
        Folder.collect = seen
        pool = stack.enter_context(sweep.processes(1)) if worker else None
        sweep.run(functools.partial(make, 16), space, steps, out=out, executor=pool, **given)
    ends, training = np.asarray(times).T
    return float(np.median(np.diff(ends) - training[1:])), float(np.median(training[1:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("steps", 2000), ("segment", 100), ("trials", 32), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    whole, parts = measure(**vars(args))
    print(
        f"{args.trials} trials, {args.steps} steps: one scan {whole:.3f} s, segments of "
        f"{args.segment} {parts:.3f} s, {100 * (parts / whole - 1):+.1f} %"
    )
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    for who, worker in (("one process", False), ("a worker", True)):
        between, training = between_batches(args.steps, args.segment, args.trials, worker)
        print(
            f"{who}: {1000 * between:.0f} ms between batches of {training:.2f} s, "
            f"{100 * between / training:.1f} %"
        )


if __name__ == "__main__":
    main()
