"""Training many members as one program: vmapped, sharded over devices, stopped when solved."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from jax.typing import ArrayLike

from experiments.lab.models import Member, Task, optimizer
from seqcells import probes, train
from seqcells._types import PyTree

Program = Callable[..., PyTree]  # of arrays whose first axis is the members


def over_members(f: Program) -> Program:
    """Map `f` over the first axis of all its arguments, sharded over the devices.

    The devices do not communicate. Keep it so: copy a result to the host with `np.asarray` before
    you select some of its rows. Slicing it on the devices makes them wait for each other, and two
    CPU devices on two threads may then deadlock.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("members")
    return jax.shard_map(jax.vmap(f), mesh=mesh, in_specs=rows, out_specs=rows)


def pad(tree: PyTree) -> PyTree:
    """Repeat the last member until the members divide evenly among the devices."""

    def leaf(a: jax.Array) -> jax.Array:
        missing = -len(a) % jax.device_count()
        return jnp.concatenate([a, jnp.repeat(a[-1:], missing, axis=0)])

    return jax.tree.map(leaf, tree)


def by_segment(values: ArrayLike, segment: int) -> np.ndarray:
    """Average [M, steps] over segments: [M, segments]. The last segment may be shorter."""
    values = np.asarray(values, float)
    starts = np.arange(0, values.shape[-1], segment)
    sizes = np.diff([*starts, values.shape[-1]])
    return np.add.reduceat(values, starts, axis=-1) / sizes


def passed(values: np.ndarray, success: probes.Success, strictness: float = 1.0) -> np.ndarray:
    """Whether averages count as solved; a strictness of 2 halves the allowed error."""
    if success.measure == "loss":
        return values < success.bound / strictness
    return 1 - values < (1 - success.bound) / strictness


def solved_at(
    values: np.ndarray, success: probes.Success, segment: int, steps: int, in_the_end: bool = False
) -> float:
    """Return the step at which the average of a segment first passes.

    If none does, it is the last step for a run that counts as solved in the end, NaN for others.
    """
    good = np.flatnonzero(passed(values, success))
    if len(good):
        return float(min((good[0] + 1) * segment, steps))
    return float(steps) if in_the_end else math.nan


def fit(
    task: Task,
    state: train.TrainState,
    members: Member,
    steps: int,
    segment: int,
    progress: Callable[[int], None],
    optimizer: train.Optimizer = optimizer,
    strictness: float = 2.0,
) -> tuple[train.TrainState, train.Metrics, float]:
    """Train all members until all have learned, or all steps are done.

    A member has learned when the error of a segment is the one that counts as solved, divided by
    `strictness`, or less.

    Returns:
        The state, the metrics [M, steps], and the seconds per step of the whole group.
    """
    marks, success = [(0, time.perf_counter())], task.probe.success

    def look(state: train.TrainState, metrics: train.Metrics) -> bool:
        values = np.asarray(metrics["measure"]).mean(axis=-1)
        marks.append((int(np.asarray(state.step)[0]), time.perf_counter()))
        progress(marks[-1][0])
        return bool(passed(values, success, strictness).all())

    state, metrics = train.fit(
        task,
        state,
        members,
        steps,
        segment=segment,
        optimizer=optimizer,
        transform=over_members,
        on_segment=look,
    )
    return state, metrics, pace(marks, segment)


@functools.lru_cache(maxsize=8)
def evaluate(task: Task, size: int) -> Program:
    """Make the program that scores all members on `size` fresh sequences each."""
    return jax.jit(over_members(lambda p, key, member: task.evaluate(p, key, member, size)))


def pace(marks: Sequence[tuple[int, float]], segment: int) -> float:
    """Return the seconds per step, from (step, time) after each segment; NaN if there are too few.

    The first segment compiles, and so does a shorter last one: neither counts.
    """
    spans = [(s1 - s0, t1 - t0) for (s0, t0), (s1, t1) in itertools.pairwise(marks[1:])]
    whole = [seconds for steps, seconds in spans if steps == segment]
    return sum(whole) / (segment * len(whole)) if whole else math.nan
