"""Sweeps of the command line: a cell on a probe, with a progress bar, in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from experiments import lab
from experiments.sweep import searches
from experiments.sweep.executors import started
from experiments.sweep.settings import CELLS, LEAST, WIDE, Settings, probe, values
from seqcells import sweep, train
from seqcells._cell import Params
from seqcells._checkpoint import CheckpointError


class NotBegun(lab.BadInput):
    """A sweep that has not finished its first segment."""


BATCH = 16  # proposals of a search at a time, unless the user gives a number
HParams = dict[str, jax.Array]  # the fields of `Swept` of one trial, float[]
LossAndMetrics = tuple[jax.Array, train.Metrics]


def make(name: str, cell: str, hidden_size: int, length: int, batch_size: int) -> sweep.Task:
    """Make the task that trains a cell on the named probe; for other arguments see `Static`."""
    task = lab.Task(CELLS[cell](hidden_size, length), probe(name, length), batch_size)

    def loss(
        params: lab.ReaderParams, key: jax.Array, hparams: HParams
    ) -> tuple[jax.Array, train.Metrics]:
        return task(params, key, lab.Member(train.HParams(), {}))

    def init(key: jax.Array, hparams: HParams) -> lab.ReaderParams:
        params = task.reader.init(key, task.probe.input_size)
        return params._replace(cell=_scaled(params.cell, hparams["init_gain"]))

    return sweep.from_loss(loss, init)


def _scaled(params: Params, gain: jax.Array) -> Params:
    """Scale the recurrent weights."""

    def of(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf * gain if _is_recurrent(path) else leaf

    return jax.tree_util.tree_map_with_path(of, params)


def _is_recurrent(path: tuple[Any, ...]) -> bool:
    """Whether the parameter at this path of a tree weighs the carry."""
    return getattr(path[-1], "name", None) in ("w_hh", "w_zh")


@dataclasses.dataclass(frozen=True)
class Way:
    """Where trials are trained, and for how long; results do not depend on it."""

    executor: Annotated[str | None, tyro.conf.arg(metavar="WHERE", help_behavior_hint="")] = None
    """workers that train: processes:2, dask://host:8786, submitit; if not given, this process"""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """save and stop after so many minutes"""


def run(
    name: str,
    settings: Settings,
    out: Path,
    console: Console,
    command: str,
    way: Way = Way(),
    remedy: str = "give another with --out",
) -> sweep.Result:
    """Run the unfinished trials, with a progress bar.

    Args:
        name: the name of the probe.
        settings: the settings of the sweep.
        out: the folder, which also stores the arguments.
        console: the console for the bar.
        command: the command that a user types for this.
        way: where and for how long.
        remedy: what to do about a folder that cannot be written to.

    Raises:
        lab.BadInput: a setting is out of range, or `out` holds something else.
    """
    lab.folders.check(out, f"{lab.folders.SWEEP} of {name}")
    with lab.refusals(settings):
        done = _finished(out, settings)
    if not done:
        _check_tasks(name, settings)
    total = settings.trials * settings.steps
    lab.say(console, f"{name}: {_cost(settings, total)}")
    about = {"probe": name, "command": command, "settings": dataclasses.asdict(settings)}
    left = TextColumn("{task.percentage:.0f} %, left"), TimeRemainingColumn()
    with (
        _refusals(settings, out, remedy),
        started(way.executor, out) as options,
        lab.progress_bar(console, *left, first=0) as bar,
    ):
        result = _trainer(settings, out)(
            functools.partial(make, name),
            settings.space,
            steps=settings.steps,
            segment=settings.segment,
            out=out,
            on_start=lambda: _write_about(out, about, done),
            on_segment=_show_progress(bar, settings.steps, total),
            minutes=way.minutes,
            config={"probe": name} | ({"search": settings.search} if settings.search else {}),
            **options,
        )
    if "unfinished" in result.column("status"):
        again = f"python -m experiments resume {out}"
        lab.say(console, f"The time is up. Everything is saved; to go on: {again}")
    return result


def _trainer(settings: Settings, out: Path) -> Callable[..., sweep.Result]:
    """Return `sweep.run` or `sweep.search`, with what makes a sweep one of these settings."""
    every = settings.halve_every
    halving = None if every is None else sweep.Halving(every)
    if settings.search is None:
        pbt, batch = population(settings), settings.batch
        return functools.partial(sweep.run, batch=batch, halving=halving, pbt=pbt)
    if settings.pbt is not None:
        raise lab.BadInput(
            "pbt: expected a population or a search, got both; leave --search or --pbt out"
        )
    if not settings.space.distributions:
        raise lab.BadInput(
            "search: expected a range to search, got lists of values alone; give one, as in "
            f"--sweep.lr {WIDE}"
        )
    return functools.partial(
        sweep.search,
        study=searches.study(settings, out),
        batch=BATCH if settings.batch == "auto" else settings.batch,
        replicates=settings.seeds,
        halving=halving,
    )


def population(settings: Settings) -> sweep.PBT | None:
    """Return the population of these settings; the hyperparameters that differ are perturbed."""
    if settings.pbt is None:
        return None
    space = settings.space
    names = {n for n, values in space.grid.items() if len(values) > 1} | {*space.distributions}
    read = sorted(names & {*train.HParams._fields})  # by each step of AdamW
    if not read:
        raise lab.BadInput(
            "pbt: expected several values of learning_rate, max_norm or weight_decay, which a step "
            f"of training reads, got one of each; give --sweep.lr {WIDE}"
        )
    pbt = sweep.PBT(settings.pbt)
    return pbt._replace(perturb=dict.fromkeys(read, pbt.perturb))


def _write_about(out: Path, about: lab.Json, done: bool) -> None:
    """Write `run.json`, with the provenance of the results so far."""
    made_with, now = lab.read_about(out).get("made_with", []), lab.made_with()
    if now not in made_with and not done:
        made_with = [*made_with, now]
    lab.write_about(out, about | {"made_with": made_with})


def _finished(out: Path, settings: Settings) -> bool:
    try:
        status = searches.load(settings, out, "unfinished").column("status")
    except FileNotFoundError:
        return False
    return len(status) == settings.trials and "unfinished" not in status


def _cost(settings: Settings, steps: int) -> str:
    programs = math.prod(map(len, settings.space.static.values()))
    return (
        f"{settings.trials} trials in {programs} program{'s' * (programs > 1)}, "
        f"at most {steps:,} steps of training in all."
    )


def _check_tasks(name: str, settings: Settings) -> None:
    """Raise `BadInput` if a task cannot be made, before anything is written."""
    for length in settings.static.length:
        probe(name, length)
    static, gain = settings.static, settings.sweep.init_gain
    scaled = values("sweep.init_gain", gain, LEAST["init_gain"]) != [1.0]
    with lab.refusals(static):
        for cell, size, length, batch in itertools.product(*vars(static).values()):
            fields = {field: jnp.float32(1) for field in vars(settings.sweep)}
            init = make(name, cell, size, length, batch).init
            state = jax.eval_shape(init, fields, jax.random.key(0))
            leaves = jax.tree_util.tree_leaves_with_path(state.params.cell)
            if scaled and not any(_is_recurrent(path) for path, _ in leaves):
                raise lab.BadInput(
                    f"sweep.init_gain: expected 1 for {cell}, which has no recurrent weights to "
                    f"scale, got {gain}; sweep it for the other cells alone"
                )


@contextlib.contextmanager
def _refusals(settings: Settings, out: Path, remedy: str) -> Iterator[None]:
    """Turn errors of a sweep that a user can correct into `BadInput`."""
    try:
        with lab.refusals(settings):
            yield
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError):
            lab.writable(out, remedy)
        raise


def _show_progress(bar: Progress, steps: int, total: int) -> Callable[[sweep.Progress], None]:
    """Return a function that updates the bar after each segment."""
    task = bar.add_task("compiling", total=total)
    seen: list[tuple[float, int]] = []

    def show(p: sweep.Progress) -> None:
        done = p.finished * steps + p.training
        seen.append((time.perf_counter(), done))
        (first, before), (last, now) = seen[max(0, len(seen) - 10)], seen[-1]
        rate = f"{lab.short((now - before) / (last - first))} steps/s" if last > first else ""
        best = "no" if math.isnan(p.best) else lab.short(p.best)
        where = ", ".join(f"{value}" for value in p.static.values())
        counts = (
            f"{p.alive} alive at step {p.step}, best {best}, {p.finished} of {p.total} finished"
        )
        bar.update(
            task,
            completed=done,
            description=", ".join(filter(None, [f"{where}: {counts}", rate])),
        )

    return show


def read_sweep(out: Path) -> tuple[str, Settings, lab.Json]:
    """Return the probe and the settings of a sweep, and the rest of its `run.json`.

    Raises:
        BadInput: the folder holds no sweep.
    """
    about = lab.read_about(out)
    try:
        return about["probe"], lab.restore(Settings(), about["settings"]), about
    except (KeyError, TypeError):
        raise lab.BadInput(
            f"out: expected the folder of a sweep, with {lab.ABOUT}, got {out}; "
            "make one with python -m experiments sweep PROBE"
        ) from None


def load(
    out: Path, history: Literal["all", "unfinished"] = "all"
) -> tuple[Settings, sweep.Result, lab.Json]:
    """Read a sweep, finished or not: its settings, its table and its `run.json`."""
    _, settings, about = read_sweep(out)
    try:
        with lab.refusals(settings):
            return settings, searches.load(settings, out, history), about
    except FileNotFoundError:
        raise NotBegun(
            f"out: expected a sweep with results, got {out}, where no segment is finished yet"
        ) from None
