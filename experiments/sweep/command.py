"""A sweep from the command line: a net on a probe, over hyperparameters that are typed as text."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import seqcells as sc
from experiments.lab import (
    ABOUT,
    CHRONO,
    GRU,
    IRNN,
    TANH,
    BadInput,
    Json,
    Member,
    Reader,
    ReaderParams,
    Task,
    made_with,
    read_about,
    restore,
    say,
    short,
    writable,
    write_about,
)
from seqcells import probes, sweep, train

PROBES: dict[str, Callable[[int], probes.Probe]] = {  # a length, as the probe counts it -> it
    **{
        module: getattr(probes, name)
        for name in (
            *("AddingPascanu", "AddingTCN", "AddingURNN", "Copy", "DelayedMatch", "DelayedRecall"),
            *("DelayedXOR", "Memorization", "MQAR", "Multiplication", "Parity"),
            *("RandomPermutation", "SelectiveCopy", "TemporalOrder", "VariableCopy"),
        )
        for module in [getattr(probes, name).__module__.rpartition(".")[2]]
    },
    "group_words": functools.partial(probes.GroupWords, "A5"),
}
CELLS: dict[str, Callable[[int, int], Any]] = {  # (units, longest time in steps) -> a cell
    "gru": GRU.start,
    "gru-chrono": CHRONO.start,
    "tanh": TANH.start,
    "irnn": IRNN.start,
    "lstm": lambda size, _: sc.LSTM(size),
    "mgu": lambda size, _: sc.MGU(size),
    "mingru": lambda size, _: sc.MinGRU(size),
    "lru": lambda size, _: sc.LRU(size),
}
if TYPE_CHECKING:
    CellName = str
else:  # the command line offers these and refuses others
    CellName = Literal[tuple(CELLS)]
RANGES: dict[str, Callable[..., Any]] = {
    "log": lambda low, high, n: sweep.log(low, high, int(n)),
    "linear": lambda low, high, n: sweep.linear(low, high, int(n)),
    "loguniform": sweep.log_uniform,
    "uniform": sweep.uniform,
}
FORMS = "1e-3,1e-2 or log:1e-4:1e-1:16, linear:0:1:5, loguniform:1e-4:1e-1, uniform:0:1"


@dataclasses.dataclass(frozen=True)
class Swept:
    """The hyperparameters in which the trials of one program differ.

    Each is a list (1e-3,1e-2), a grid (log:1e-4:1e-1:16, linear:0:1:5) or a distribution
    (loguniform:1e-4:1e-1, uniform:0:1), which wants samples.
    """

    learning_rate: Annotated[str, tyro.conf.arg(aliases=["--sweep.lr"])] = "log:1e-3:1e-2:3"
    """of AdamW"""
    max_norm: str = "1"
    """to which the gradient's global norm is clipped"""
    weight_decay: str = "0"
    """of AdamW"""
    init_gain: str = "1"
    """factor on the recurrent weights at the start"""


@dataclasses.dataclass(frozen=True)
class Static:
    """What changes the program: one is compiled for each combination."""

    cell: tuple[CellName, ...] = ("gru",)
    """cells to compare"""
    hidden_size: tuple[int, ...] = (32,)
    """units"""
    length: tuple[int, ...] = (20,)
    """of the probe, as it counts it: steps, lag or delay"""
    batch_size: tuple[int, ...] = (32,)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a sweep is told."""

    sweep: Swept = Swept()
    static: Static = Static()
    seeds: int = 3
    """trainings of every configuration, from starts of their own"""
    samples: int | None = None
    """draws of what is loguniform or uniform"""
    steps: int = 500
    """of training, a multiple of the segment"""
    segment: int = 50
    """steps between two looks"""
    halve_every: int | None = None
    """steps after which the worse half is pruned, again and again; never if not given"""
    batch: int | Literal["auto"] = "auto"
    """trials to train together; auto: as many as memory holds"""

    @property
    def space(self) -> sweep.Space:
        """The space; raises `BadInput` where it is none."""
        if self.seeds < 1:
            raise BadInput(f"seeds: expected at least 1, got {self.seeds}; give --seeds 1 or more")
        try:
            fields = {
                field.name: values(f"sweep.{field.name}", getattr(self.sweep, field.name))
                for field in dataclasses.fields(self.sweep)
            }
            static = {n: list(v) for n, v in dataclasses.asdict(self.static).items()}
            return sweep.Space(
                samples=self.samples, static=static, seed=range(self.seeds), **fields
            )
        except (TypeError, ValueError) as error:
            raise BadInput(str(error)) from None


def values(name: str, text: str) -> Any:
    """Read values that were typed, such as 1e-3,1e-2 or log:1e-4:1e-1:16."""
    kind, *numbers = text.split(":")
    try:
        if not numbers:
            return [float(number) for number in text.split(",")]
        return RANGES[kind](*map(float, numbers))
    except (KeyError, TypeError, ValueError) as error:
        why = f" ({error})" if isinstance(error, ValueError) and numbers else ""
        raise BadInput(f"{name}: expected {FORMS}, got {text!r}{why}") from None


def make(probe: str) -> Callable[..., sweep.Task]:
    """Return what makes a task of the static fields."""

    def make(cell: str, hidden_size: int, length: int, batch_size: int) -> sweep.Task:
        of = _probe(probe, length)
        start = CELLS[cell](hidden_size, length)
        task = Task(Reader(start, of.output_size), of, batch_size)

        def loss(params: Any, key: jax.Array, hparams: dict[str, jax.Array]) -> Any:
            return task(params, key, Member(train.HParams(), {}))

        def init(key: jax.Array, hparams: dict[str, jax.Array]) -> ReaderParams:
            params = task.reader.init(key, of.input_size)
            return params._replace(cell=_scaled(params.cell, hparams["init_gain"]))

        return sweep.from_loss(loss, init)

    return make


def _probe(name: str, length: int) -> probes.Probe:
    try:
        return PROBES[name](length)
    except ValueError as error:
        raise BadInput(f"static.length: {name} refuses {length}: {error}") from None


def _scaled(params: Any, gain: jax.Array) -> Any:
    """Scale the recurrent weights, where a cell has some."""
    return params._replace(w_hh=params.w_hh * gain) if hasattr(params, "w_hh") else params


def run(probe: str, settings: Settings, out: Path, console: Console, command: str) -> sweep.Result:
    """Run what is not finished, with a bar; the folder says what it was told."""
    space = settings.space
    trials = space.trials()
    for length in settings.static.length:
        _probe(probe, length)
    buckets = len({json.dumps(t.static, sort_keys=True) for t in trials})
    total = len(trials) * settings.steps
    say(
        console,
        f"{probe}: {len(trials)} trials in {buckets} "
        f"program{'s' * (buckets > 1)}, at most {total:,} steps of training in all.",
    )
    about = {"probe": probe, "command": command, "settings": dataclasses.asdict(settings)}
    write_about(writable(out), about | {"made_with": [made_with()]})
    every = settings.halve_every
    with _bar(console) as bar:
        try:
            return sweep.run(
                make(probe),
                space,
                settings.steps,
                segment=settings.segment,
                out=out,
                batch=settings.batch,
                halving=None if every is None else sweep.Halving(every),
                on_segment=_teller(bar, settings.steps, total),
                config={"probe": probe},
            )
        except sweep.AllFailed as error:
            raise BadInput(str(error)) from None
        except (TypeError, ValueError) as error:
            if str(error).split(":")[0] in ("steps", "segment", "batch", "halving.every", "out"):
                raise BadInput(str(error)) from None
            raise


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _teller(bar: Progress, steps: int, total: int) -> Callable[[sweep.Progress], None]:
    """Draw what a sweep tells after a segment."""
    task = bar.add_task("compiling", total=total)
    seen: list[tuple[float, int]] = []

    def tell(p: sweep.Progress) -> None:
        done = p.finished * steps + p.alive * p.step
        seen.append((time.perf_counter(), done))
        (first, before), (last, now) = seen[max(0, len(seen) - 10)], seen[-1]
        rate = f"{short((now - before) / (last - first))} steps/s" if last > first else ""
        best = "no" if math.isnan(p.best) else short(p.best)
        where = ", ".join(f"{value}" for value in p.static.values())
        bar.update(
            task,
            completed=done,
            description=f"{where}: {p.alive} alive at step {p.step}, best {best}, "
            f"{p.finished} of {p.total} finished, {rate}",
        )

    return tell


def read_sweep(out: Path) -> tuple[str, Settings, Json]:
    """Return the probe and the settings of a sweep, and the rest of its `run.json`.

    Raises:
        BadInput: where the folder holds no sweep.
    """
    about = read_about(out)
    try:
        return about["probe"], restore(Settings(), about["settings"]), about
    except (KeyError, TypeError):
        raise BadInput(
            f"out: expected the folder of a sweep, with {ABOUT}, got {out}; "
            "make one with python -m experiments sweep PROBE"
        ) from None


def load(out: Path) -> tuple[str, sweep.Result, Json]:
    """Read a sweep, finished or not: its probe, its table and what the folder says of the run."""
    probe, settings, about = read_sweep(out)
    try:
        return probe, sweep.load(out, settings.space), about
    except FileNotFoundError:
        raise BadInput(f"out: the sweep in {out} has not finished its first segment") from None
