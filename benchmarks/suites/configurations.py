"""Whole trainings: a sweep as one program, a loop over one jitted run, and a program for each."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

import seqcells as sc
from benchmarks.harness import machine
from benchmarks.harness.problem import Shape, draw_inputs
from benchmarks.harness.timing import Call, interleave, time_columns
from seqcells import sweep, train

Row = dict[str, Any]

OURS = "sc.sweep"
MOST = 16  # configurations for each of which a program is compiled; more take minutes a round
KEYS = ["configurations", "H", "steps"]  # of a group
COLUMNS = [
    *KEYS,
    *("B", "T", "I", "contestant", "per_second", "per_second_low", "per_second_high"),
    *("ratio", "ratio_low", "ratio_high", "rounds", *machine.COLUMNS),
]


def measure(configurations: int, hidden: int, steps: int, seconds: float) -> list[Row]:
    """Time all trainings from nothing, compiling included; returns a row a contestant.

    Args:
        configurations: how many learning rates are tried.
        hidden: H of the cell.
        steps: of each training.
        seconds: how long it is timed, at least five rounds.
    """
    sizes = Shape(f"H{hidden}", 32, 100, 8, hidden)
    times = interleave(contestants(configurations, sizes, steps), seconds)
    group = {"configurations": configurations, "H": hidden, "steps": steps}
    group |= {"B": sizes.B, "T": sizes.T, "I": sizes.D} | machine.about()
    return [group | {"contestant": name} | _rates(times, name, configurations) for name in times]


def _rates(times: dict[str, list[float]], name: str, configurations: int) -> Row:
    timed = time_columns(times, name, OURS)
    ends = {"": "ms", "_low": "ms_high", "_high": "ms_low"}
    rates = {f"per_second{end}": 1e3 * configurations / timed[ms] for end, ms in ends.items()}
    return rates | {n: value for n, value in timed.items() if not n.startswith("ms")}


def contestants(configurations: int, sizes: Shape, steps: int) -> dict[str, Call]:
    """Make what is timed: each begins with nothing compiled, and returns the last losses."""
    cell, xs = sc.GRU(sizes.H), draw_inputs(sizes)
    rates = sweep.log(1e-4, 1e-2, configurations)

    def loss(params: Any, key: jax.Array, hparams: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return jnp.mean(jnp.square(sc.unroll(cell, params, xs)[1])), {}

    def start() -> Any:
        return cell.init(jax.random.key(0), sizes.D)

    def swept() -> list[float]:
        task = sweep.from_loss(loss, lambda key, hparams: start())
        space = sweep.Space(learning_rate=rates)
        result = sweep.run(lambda: task, space, steps, segment=steps)
        return [row["loss"] for row in result.rows]

    def trained(run: Any, rate: Any) -> float:
        hparams = train.HParams(learning_rate=rate)
        state = train.init(start(), hparams, jax.random.key(1))
        return float(jnp.mean(run(state, hparams)[1]["loss"]))

    def looped() -> list[float]:
        run = jax.jit(functools.partial(train.run, loss, steps=steps))
        return [trained(run, jnp.float32(rate)) for rate in rates]

    def compiled_for(rate: float) -> float:
        hparams = train.HParams(learning_rate=rate)
        run = jax.jit(lambda state: train.run(loss, state, hparams, steps))
        return trained(lambda state, _: run(state), rate)

    calls = {OURS: swept, "one jitted run, looped": looped}
    if configurations <= MOST:
        calls["a program for each"] = lambda: [compiled_for(rate) for rate in rates]
    return {name: functools.partial(_afresh, call) for name, call in calls.items()}


def _afresh(call: Call) -> Any:
    jax.clear_caches()
    return call()
