"""The training of one batch, from its checkpoint or from the first step, to its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import jax

from seqcells.sweep._batch import Batch, empty
from seqcells.sweep._bucket import Bucket
from seqcells.sweep._job import Job
from seqcells.sweep._lines import Row
from seqcells.sweep._part import Part
from seqcells.sweep._plan import Plan
from seqcells.sweep._population import Population
from seqcells.sweep._program import Program, shared_evenly


def train(
    bucket: Bucket,
    job: Job,
    part: Part,
    stop: Callable[[], object],
    report: Callable[[Batch, Sequence[Row]], object],
) -> bool:
    """Train a batch.

    Args:
        bucket: the programs.
        job: the trials of the batch.
        part: the store of the batch, which it has to itself.
        stop: called before each segment; if it returns something true, the batch is saved.
        report: called after each segment, with its lines of the history.

    Returns:
        Whether it was trained to the end.
    """
    plan = bucket.plan
    bucket.check(job.trials)
    batch = _resumed(bucket, job, part) or _kind(plan).begin(bucket.program(job.width), job.trials)
    part.rewind(batch.step)
    saved, at = time.monotonic(), batch.step
    while batch.step < plan.steps and batch.alive.any():
        if stop():
            if batch.step > at:
                part.save(batch.program.width, batch.step, batch.saved)
            return False
        lines = batch.advance(plan.segment)
        bucket.check_perturbed(batch.changed)
        part.log(lines)
        narrower = _prune(plan, batch, bucket.program)
        report(batch, lines)
        if narrower or time.monotonic() - saved >= plan.save_seconds:
            part.save(batch.program.width, batch.step, batch.saved)
            saved, at = time.monotonic(), batch.step
    batch.finish()
    part.record(batch.rows())
    return True


def _resumed(bucket: Bucket, job: Job, part: Part) -> Batch | None:
    """Return the batch of the latest checkpoint, if there is one."""
    if job.width != shared_evenly(job.width):
        raise ValueError(
            f"batch: expected a number of devices that divides batches of {job.width} trials, got "
            f"{jax.local_device_count()}"
        )
    for width in part.widths():
        program = bucket.program(width)
        saved = part.load(width, like=empty(program, job.width))
        if saved is not None:
            return _kind(bucket.plan)(program, job.trials, saved.tree, saved.step)
    return None


def _kind(plan: Plan) -> type[Batch]:
    return Batch if plan.evolution is None else Population


def _prune(plan: Plan, batch: Batch, programs: Callable[[int], Program]) -> bool:
    """Prune if it is due; return whether the batch has moved to another program."""
    halving, before = plan.halving, batch.program
    alive = int(batch.alive.sum())
    if halving and alive and batch.step < plan.steps and batch.step % halving.every == 0:
        order = plan.sign * batch.record.metrics[plan.metric]
        batch.halve(math.ceil(halving.keep * alive), order, programs)
    return batch.program is not before
