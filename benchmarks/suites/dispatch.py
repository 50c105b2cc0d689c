"""The cost of a call: a jitted unroll of a few small steps, against a scan written by hand.

At this size, a call is mostly JAX's overhead of starting a program, so anything that a flag leaves
in the program, such as an effect, becomes visible.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from benchmarks.harness import benchmark, naive, pages, problem, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.contestants import OURS, PEERS
from benchmarks.harness.problem import Params, Shape
from benchmarks.harness.tables import Row, split_groups

SHAPE = Shape("tiny", 3, 5, 8, 4)
KEYS = ["flags"]
TEXT = """\
One call of a jitted function: a GRU of 4 units over 5 steps of 3 sequences, with the arguments
named in the first column, by seqcells and by a `jax.lax.scan` written by hand that takes the same
arguments. Medians over interleaved rounds, quartiles in brackets."""
Flags = dict[str, Any]  # arrays, by the arguments of `unroll`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure one call of a jitted unroll with each argument, against a scan written by hand."""


def draw() -> dict[str, Flags]:
    """Draw the arguments of a call, by name."""
    lengths = jnp.array([5, 2, 1])
    every = {
        "lengths": lengths,
        "mask": jnp.arange(SHAPE.T)[:, None] < lengths,
        "resets": jnp.zeros((SHAPE.T, SHAPE.B), bool).at[2].set(True),
        "reset_carry": jnp.ones((SHAPE.B, SHAPE.H)),
    }
    names = ((), *((name,) for name in every), ("lengths", "resets"))
    return {" + ".join(some) or "none": {name: every[name] for name in some} for some in names}


def by_hand(params: Params, xs: jax.Array, flags: Flags) -> jax.Array:
    """Run a GRU as a user would write it who needs only these flags."""
    fresh = flags.get("reset_carry", jnp.zeros((xs.shape[1], SHAPE.H)))
    valid, resets = flags.get("mask"), flags.get("resets")
    if "lengths" in flags:
        valid = jnp.arange(len(xs))[:, None] < flags["lengths"]

    products = naive.rows(params)

    def step(h: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        x, valid, reset = inputs
        h = h if reset is None else jnp.where(reset[:, None], fresh, h)
        new, y = naive.gru(products, h, x)
        if valid is None:
            return new, y
        return jnp.where(valid[:, None], new, h), jnp.where(valid[:, None], y, 0)

    resets = resets if valid is None or resets is None else resets & valid
    return jax.lax.scan(step, fresh, (xs, valid, resets))[1]


def contestants() -> dict[str, Callable[[Params, jax.Array, Flags], jax.Array]]:
    """Return the two functions, jitted, by name."""
    cell = sc.GRU(SHAPE.H)

    def ours(params: Params, xs: jax.Array, flags: Flags) -> jax.Array:
        return sc.unroll(cell, params, xs, **flags)[1]

    return {OURS.name: jax.jit(ours), PEERS["naive"].name: jax.jit(by_hand)}


def measure(name: str, flags: Flags, seconds: float, report: Report) -> list[Row]:
    """Check that outputs are equal with these flags, then time both."""
    args = (problem.draw_params(sc.GRU(SHAPE.H), SHAPE.D), problem.draw_inputs(SHAPE), flags)
    functions = contestants()
    ours, theirs = (np.asarray(function(*args)) for function in functions.values())
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    report("timing")
    calls = {
        contestant: lambda function=function: jax.block_until_ready(function(*args))
        for contestant, function in functions.items()
    }
    times = timing.interleave(calls, seconds)
    return timing.contestant_rows(times, PEERS["naive"].name, {"flags": name})


def groups(settings: Settings) -> Iterator[Group]:
    """List every flag."""
    for name, flags in draw().items():
        yield Group(name, functools.partial(measure, name, flags, settings.seconds))


def page(rows: list[Row]) -> str:
    """Show microseconds per call, and the ratio."""
    kinds = split_groups(rows, KEYS).values()
    names, label = pages.contestants(rows), pages.columns("flags")
    sections = [
        f"## Milliseconds a call\n\n{pages.grid(kinds, label, names, pages.spread('ms'), texts=1)}",
        "## Time over that of the scan by hand\n\n"
        + pages.grid(kinds, label, names[:1], pages.spread("ratio"), texts=1),
    ]
    return pages.page("What a call costs", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="dispatch",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
)
