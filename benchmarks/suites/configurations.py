"""Whole trainings: a sweep in one program, a loop over one jitted run, and one program each."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import Params, Shape, draw_inputs
from benchmarks.harness.tables import Row
from benchmarks.harness.timing import Call, Times
from seqcells import sweep, train

OURS = "sc.sweep"
MOST = 16  # maximal configurations with one program each; compiling more takes minutes per round
KEYS = ["configurations", "H", "steps"]
RATES = ["per_second", "per_second_low", "per_second_high"]
TEXT = """\
Learning rates are tried, each from the same start: a GRU is trained with AdamW to put out little on
a batch of 32 sequences of 100 steps with 8 features. Every round begins with nothing compiled.
Medians over interleaved rounds, quartiles in brackets; a dash where it was not timed."""

Run = Callable[[train.TrainState, train.HParams], tuple[train.TrainState, train.Metrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure whole trainings per second: a sweep, a loop over a jitted run, one program each."""

    configurations: tuple[int, ...] = dataclasses.field(default=(16, 64), metadata={"least": 2})
    """numbers of learning rates"""
    hidden_size: tuple[int, ...] = dataclasses.field(default=(32,), metadata={"least": 2})
    """units of the GRU"""
    steps: int = 100
    """steps of each training"""


def groups(settings: Settings) -> Iterator[Group]:
    """List every number of configurations at every hidden size."""
    for count, hidden in itertools.product(settings.configurations, settings.hidden_size):
        job = functools.partial(measure, count, hidden, settings.steps, settings.seconds)
        yield Group(f"{count} configurations, H {hidden}", job)


def measure(
    configurations: int, hidden: int, steps: int, seconds: float, report: Report
) -> list[Row]:
    """Time all trainings, including compilation; return a row for each contestant."""
    shape = Shape(f"H{hidden}", 32, 100, 8, hidden)
    report("timing")
    times = timing.interleave(contestants(configurations, shape, steps), seconds)
    group = {"configurations": configurations, "steps": steps} | shape.columns
    return [
        row | _rates(times, row["contestant"], configurations)
        for row in timing.contestant_rows(times, OURS, group)
    ]


def _rates(times: Times, name: str, configurations: int) -> Row:
    """Return configurations per second; the lower quartile belongs to the longer time."""
    median, low, high = timing.spread(times[name])
    return dict(zip(RATES, (configurations / t for t in (median, high, low)), strict=True))


@dataclasses.dataclass(frozen=True, eq=False)
class Trainings:
    """One training for each learning rate; the methods run all of them and return the losses."""

    cell: sc.Cell
    xs: jax.Array  # [T, B, D]
    rates: Sequence[float]
    steps: int

    def init(self) -> Params:
        """Return the initial parameters of every training."""
        return self.cell.init(jax.random.key(0), self.xs.shape[-1])

    def loss(self, params: Params, *_: object) -> tuple[jax.Array, train.Metrics]:
        """Compute the loss; it uses neither key nor hyperparameters."""
        return jnp.mean(jnp.square(sc.unroll(self.cell, params, self.xs)[1])), {}

    def swept(self) -> list[float]:
        """Train with `seqcells.sweep`."""
        task = sweep.from_loss(self.loss, lambda key, hparams: self.init())
        space = sweep.Space(learning_rate=self.rates)
        result = sweep.run(lambda: task, space, self.steps, segment=self.steps)
        return [row["loss"] for row in result.rows]

    def looped(self) -> list[float]:
        """Train one after the other with a program that takes the learning rate."""
        run = jax.jit(functools.partial(train.run, self.loss, steps=self.steps))
        return [self._train(run, jnp.float32(rate)) for rate in self.rates]

    def compiled_for_each(self) -> list[float]:
        """Train one after the other, each with a program for its own learning rate."""
        return [self._train(self._compiled_for(rate), rate) for rate in self.rates]

    def _compiled_for(self, rate: float) -> Run:
        hparams = train.HParams(learning_rate=rate)
        run = jax.jit(lambda state: train.run(self.loss, state, hparams, self.steps))
        return lambda state, _: run(state)

    def _train(self, run: Run, rate: train.Scalar) -> float:
        hparams = train.HParams(learning_rate=rate)
        state = train.init(self.init(), hparams, jax.random.key(1))
        return float(jnp.mean(run(state, hparams)[1]["loss"]))


def contestants(configurations: int, shape: Shape, steps: int) -> dict[str, Call]:
    """Build the contestants; each starts with nothing compiled and returns the last losses."""
    rates = sweep.log(1e-4, 1e-2, configurations)
    trainings = Trainings(sc.GRU(shape.H), draw_inputs(shape), rates, steps)
    calls = {OURS: trainings.swept, "one jitted run, looped": trainings.looped}
    if configurations <= MOST:
        calls["a program for each"] = trainings.compiled_for_each
    return {name: functools.partial(_afresh, call) for name, call in calls.items()}


def _afresh(call: Callable[[], list[float]]) -> list[float]:
    jax.clear_caches()
    return call()


def page(rows: list[Row]) -> str:
    """Show trainings per second, and ratios of time."""
    sections = pages.medians_and_ratios(rows, KEYS, "Configurations a second", "per_second")
    return pages.page("Whole trainings, compiling included", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="configurations",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "B", "T", "I", "contestant", *RATES, *timing.COLUMNS[3:]],
    groups=groups,
    page=page,
)
