"""The driver of a sweep: it plans batches, has them trained, and collects their results."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from seqcells.sweep import _lease, _machine
from seqcells.sweep._batch import Batch
from seqcells.sweep._bucket import Bucket
from seqcells.sweep._files import write_whole
from seqcells.sweep._job import Job, buckets, cut
from seqcells.sweep._lines import Row
from seqcells.sweep._part import PartFolder
from seqcells.sweep._plan import Plan
from seqcells.sweep._space import Static, Trial
from seqcells.sweep._store import Folder, Memory
from seqcells.sweep._train import train
from seqcells.sweep._worker import DRIVER_FILE

LOOK = 0.5  # seconds between two looks at a batch that another worker holds
log = logging.getLogger("seqcells.sweep")


class Standing(NamedTuple):
    """How far a batch has got."""

    static: Static
    step: int
    alive: int
    best: float  # NaN if no trial is alive
    training: int  # steps that the trials alive have taken, of all batches in training
    rows: Callable[[], Sequence[Row]]  # see `Progress.rows`; read only if somebody asks for them


class Sweep(NamedTuple):
    """A sweep that is run: what it trains, and for whom; `driving` holds its store."""

    plan: Plan
    trials: Sequence[Trial]
    store: Memory
    stop: Callable[[], object]  # called between segments; all batches are saved if it is true
    report: Callable[[Standing], object]  # called when a batch has got further
    run: str  # the name of the run, by `driving`
    programs: dict[str, Bucket]  # by the id of the bucket; filled as they are needed


def run_here(sweep: Sweep) -> None:
    """Train the batches one after another in this process."""
    if isinstance(sweep.store, Folder):
        _machine.first(sweep.store.out)
    begun = sweep.store.begun()
    for trials in buckets(sweep.trials):
        if not _train_bucket(sweep, trials, begun):
            return


def _train_bucket(sweep: Sweep, trials: Sequence[Trial], begun: Sequence[PartFolder]) -> bool:
    """Train the batches of a bucket; return whether all were trained to the end."""
    bucket = sweep.programs.setdefault(trials[0].bucket, Bucket(sweep.plan, trials[0]))

    def width() -> int:
        bucket.check(trials)
        devices = jax.local_device_count()
        return width_of(sweep.plan, sweep.store, trials, devices, bucket.fit)

    left = jobs(sweep.store, trials, begun, width)
    return all(_train(sweep, bucket, job) for job in left)


def _train(sweep: Sweep, bucket: Bucket, job: Job) -> bool:
    """Train and collect a batch; return whether it was trained to the end."""
    plan, part = sweep.plan, sweep.store.part(job)

    def report(batch: Batch, lines: Sequence[Row]) -> None:
        best = batch.best(plan.metric, plan.sign)
        alive = int(batch.alive.sum())
        rows = functools.partial(job.rows, lines)
        sweep.report(Standing(job.static, batch.step, alive, best, alive * batch.step, rows))

    waited = False
    while not sweep.stop():
        try:
            with part.locked():
                done = bool(part.rows) or train(bucket, job, part, sweep.stop, report)
            if done:
                sweep.store.collect(part)
            return done
        except _lease.Held as error:
            say_once = log.debug if waited else log.warning
            say_once(
                "%s; waiting until it has saved, or has been silent for %g s", error, _lease.STALE
            )
            waited = True
            time.sleep(LOOK)
    return False


def jobs(
    store: Memory, trials: Sequence[Trial], begun: Sequence[PartFolder], width: Callable[[], int]
) -> Iterator[Job]:
    """Yield the batches of a bucket that are left: first those that have begun, as they are.

    Args:
        store: the results so far.
        trials: the trials of the bucket.
        begun: the stores of batches that have begun, of all buckets.
        width: called for the width of new batches, if there are any.
    """
    known, taken = {trial.id: trial for trial in trials}, set[str]()
    for part in begun:
        ids = set(part.about["ids"])
        if part.about["bucket"] != trials[0].bucket:
            continue
        if ids <= known.keys() and not ids <= store.done:
            taken |= ids
            yield Job(tuple(known[id] for id in part.about["ids"]), part.about["width"])
        elif _lease.holder(part.folder) is None:
            part.remove()  # the space has changed since
    left = [trial for trial in trials if trial.id not in taken and trial.id not in store.done]
    if left:
        yield from cut(left, width())


def width_of(
    plan: Plan,
    store: Memory,
    trials: Sequence[Trial],
    devices: int,
    fit: Callable[[int, bool], int],
) -> int:
    """Return the width of new batches of a bucket: the stored one, else the plan's, if it fits.

    A bucket that has grown since its width was stored gets a new width.

    Args:
        plan: the settings.
        store: has the stored widths.
        trials: the trials of the bucket.
        devices: the width is a multiple of this number.
        fit: (width, whether it is fixed) -> the width that fits into memory.
    """

    def planned(count: int) -> int:
        width = 1 << (count - 1).bit_length() if plan.batch == "auto" else plan.batch
        return -(-width // devices) * devices

    bucket = trials[0].bucket
    stored, count = store.widths.get(bucket, (None, 0))
    if stored is not None and planned(len(trials)) <= planned(count):
        return fit(stored, True)
    fixed = plan.batch != "auto" or plan.pbt is not None
    width = fit(planned(len(trials)), fixed)
    store.fix_width(bucket, width, len(trials))
    return width


@contextlib.contextmanager
def driving(store: Memory) -> Iterator[str]:
    """Say in the folder which run wants batches, until the block ends; yield its name.

    Workers of earlier runs, whose driver has died, save and stop when they see another name.
    """
    run = secrets.token_hex(8)
    if not isinstance(store, Folder):
        yield run
        return
    path = store.out / DRIVER_FILE
    about = {"run": run, "host": platform.node(), "pid": os.getpid()}
    write_whole(path, json.dumps(about))
    try:
        yield run
    finally:
        path.unlink(missing_ok=True)
