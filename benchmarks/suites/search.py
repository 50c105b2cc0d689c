"""Searches with Optuna: the seconds of a trial, in a batch and one at a time."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.tables import Row
from seqcells import _check, probes

USUAL, FAIR, OURS = "Optuna, built in every trial", "Optuna, compiled once", "sweep.search"
KEYS = ["trials", "batch", "steps", "H", "devices"]
FEW = 8  # share of the trials that are built one by one, as each takes as long as the others
LENGTH, SEQUENCES = 20, 16
TEXT = """\
A search of learning rate and initial gain of a GRU on delayed recall, by TPE: the seconds of one
trial, with all compilations. Optuna alone trains one trial after another, either by a jitted
function that is built in every trial, as its examples do, or by one that is compiled once and takes
the hyperparameters as arguments. `sc.sweep.search` trains a batch at a time, on as many CPU devices
as are named. Where a function is built in every trial, an eighth of the trials is measured. Medians
over interleaved rounds, quartiles in brackets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.DeviceSettings):
    """Measure searches with Optuna, a batch of trials at a time, against one at a time."""

    trials: int = 128
    """proposals of a search"""
    batch: tuple[int, ...] = (16,)
    """proposals that sweep.search trains together"""
    steps: tuple[int, ...] = (100, 400)
    """steps of training of every trial"""
    hidden_size: int = 16
    """units of the GRU"""
    rounds: int = 3
    """times that each is measured"""
    devices: int = 2
    """CPU devices, with one core each, over which sweep.search spreads trials"""


def make(hidden_size: int) -> sc.sweep.Task:
    """Make the task: delayed recall, with the recurrent weights scaled by `gain`."""
    probe = probes.DelayedRecall(length=LENGTH)
    net = sc.Stack((sc.GRU(hidden_size), sc.Dense(probe.output_size)))

    def init(key: jax.Array, hparams: Any) -> Any:
        gru, readout = net.init(key, probe.input_size)
        return gru._replace(w_hh=gru.w_hh * hparams["gain"]), readout

    def loss(params: Any, key: jax.Array, _: object) -> tuple[jax.Array, dict]:
        sample = probe.sample(key, SEQUENCES)
        _, ys = sc.unroll(net, params, sample.xs)
        return probe.score(sample.pick(ys), sample.targets).loss, {}

    return sc.sweep.from_loss(loss, init)


def space(trials: int, hidden: int) -> sc.sweep.Space:
    """Return what is searched."""
    return sc.sweep.Space(
        samples=trials,
        learning_rate=sc.sweep.log_uniform(1e-4, 1e-1),
        gain=sc.sweep.uniform(0.5, 2.0),
        static={"hidden_size": [hidden]},
    )


def study() -> Any:
    """Return a study that proposes by TPE."""
    optuna = _check.extra("optuna", "seqcells[search]")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))


def ours(trials: int, batch: int, steps: int, hidden: int) -> None:
    """Search by `sc.sweep.search`."""
    sc.sweep.search(make, space(trials, hidden), study(), steps, segment=steps, batch=batch)


def alone(trials: int, steps: int, hidden: int, *, once: bool) -> None:
    """Search by `study.optimize`."""

    def build() -> Callable[[dict, jax.Array], jax.Array]:
        task = make(hidden)

        def train(hparams: dict, key: jax.Array) -> jax.Array:
            return task.segment(task.init(hparams, key), hparams, steps)[1]["loss"].mean()

        return jax.jit(train)

    kept = build()

    def objective(trial: Any) -> float:
        hparams = {
            "learning_rate": np.float32(trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)),
            "gain": np.float32(trial.suggest_float("gain", 0.5, 2.0)),
        }
        train = kept if once else build()
        return float(train(hparams, jax.random.key(trial.number)))

    study().optimize(objective, trials)


def groups(settings: Settings) -> Iterator[Group]:
    """List every number of steps with every batch."""
    for steps in settings.steps:
        for batch in settings.batch:
            job = functools.partial(measure, steps, batch, settings)
            yield Group(f"{steps} steps, batch {batch}", job)


def measure(steps: int, batch: int, settings: Settings, report: Report) -> list[Row]:
    """Time a trial in each way; return a row for each."""
    trials, hidden = settings.trials, settings.hidden_size
    few = -(-trials // FEW)

    def of_a_trial(count: int, way: Callable[[], None]) -> float:
        start = time.perf_counter()
        way()
        return (time.perf_counter() - start) / count

    ways: dict[str, Callable[[], float]] = {
        OURS: lambda: of_a_trial(trials, lambda: ours(trials, batch, steps, hidden)),
        FAIR: lambda: of_a_trial(trials, lambda: alone(trials, steps, hidden, once=True)),
        USUAL: lambda: of_a_trial(few, lambda: alone(few, steps, hidden, once=False)),
    }
    times = timing.in_rounds(ways, settings.rounds, report)
    group = {"trials": trials, "batch": batch, "steps": steps, "H": hidden}
    group |= {"devices": jax.local_device_count()}
    return timing.contestant_rows(times, OURS, group)


def page(rows: list[Row]) -> str:
    """Show the times of a trial, and their ratios."""
    sections = pages.medians_and_ratios(rows, KEYS, "One trial, ms", "ms")
    return pages.page("Searches with Optuna", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="search",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
)
