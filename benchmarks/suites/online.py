"""Gradients forward in time, beside a backward pass over all steps or over a window."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import arg
from tyro.extras import literal_type_from_choices

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import Inputs, Params, Shape, parse_shape
from benchmarks.harness.programs import TOLERANCE, jax_program, training
from benchmarks.harness.tables import Row, split_groups

BACKWARD = "backward"
ENGINES = {BACKWARD: None, "Truncated(32)": sc.Truncated(32), "ForwardMode": sc.ForwardMode()}
RULES = {"RTRL": sc.online.RTRL, "SnAp-1": sc.online.SnAp, "UORO": sc.online.UORO}
EXACT = (BACKWARD, "ForwardMode", "RTRL")
KINDS = {"IndRNN": sc.IndRNN, "MinGRU": sc.MinGRU, "LRU": sc.LRU, "GRU": sc.GRU}
LARGEST = {"GRU": 64}  # units: with 128, RTRL of a dense recurrence takes a minute for a gradient
SIZES = ("1,1000,32,32", "16,1000,32,32", "1,1000,128,128", "1,10000,32,32")
KEYS = ["cell", "B", "T", "I", "H"]
TEXT = """\
The gradient of mean(ys ** 2) by the parameters, after T steps: by a backward pass with the default
engine or a window of 32 steps, by the engine `ForwardMode`, and by rules of `sc.online`, whose sums
over time these are. Medians over interleaved rounds, quartiles in brackets. The exact gradients
were compared before."""

if TYPE_CHECKING:
    KindName = str
else:  # choices of the command line
    KindName = literal_type_from_choices(KINDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure gradients forward in time, against backward passes."""

    seconds: float = 2.0
    """seconds to time each group; at least five rounds are run"""
    shape: Annotated[tuple[str, ...], arg(help_behavior_hint=f"(default: {' '.join(SIZES)})")] = (
        SIZES
    )
    """shapes to measure, as B,T,D,H: sequences, steps, inputs and units"""
    cells: tuple[KindName, ...] = tuple(KINDS)
    """cells to measure"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()

    def sizes(self) -> list[Shape]:
        """Return the shapes to measure."""
        return [parse_shape(text) for text in self.shape]


def groups(settings: Settings) -> Iterator[Group]:
    """List every cell at every shape that it can be measured at."""
    for shape, kind in itertools.product(settings.sizes(), settings.cells):
        if LARGEST.get(kind, shape.H) < shape.H:
            continue
        job = functools.partial(measure, kind, shape, settings.seconds)
        yield Group(f"{kind} {shape.name}", job)


def backward(cell: sc.Cell, engine: sc.Engine | None) -> Callable[[Params, Inputs], Params]:
    """Return (params, xs) -> the gradient by a derivative of `unroll`."""
    graded = training(lambda params, xs: sc.unroll(cell, params, xs, engine=engine)[1])
    return lambda params, xs: graded(params, xs)[1]


def forward(rule: sc.online.Rule) -> Callable[[Params, Inputs], Params]:
    """Return (params, xs) -> the sum of the gradients of all steps."""

    def graded(params: Params, xs: Inputs) -> Params:
        def step(memory: tuple, inputs: tuple) -> tuple[tuple, None]:
            (trace, sums), (x, key) = memory, inputs
            trace, y = rule.step(params, trace, x, key=key)
            grads = rule.gradient(params, trace, 2 * y / (y.size * len(xs)))
            return (trace, jax.tree.map(jnp.add, sums, grads)), None

        keys = jax.random.split(jax.random.key(2), len(xs))
        first = rule.init(params, xs[0]), jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(step, first, (xs, keys))[0][1]

    return graded


def compare(ways: dict[str, Callable], params: Params, xs: Inputs) -> None:
    """Raise unless the exact gradients agree."""
    first, *others = (jax.tree.leaves(jax.jit(ways[name])(params, xs)) for name in EXACT)
    for name, leaves in zip(EXACT[1:], others, strict=True):
        for a, b in zip(leaves, first, strict=True):
            if not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * float(jnp.max(jnp.abs(b)))):
                raise ValueError(f"{name}: expected the gradient of {BACKWARD}, got another")


def measure(kind: str, shape: Shape, seconds: float, report: Report) -> list[Row]:
    """Time the gradient of a cell in each way; return a row for each."""
    cell = KINDS[kind](shape.H)
    k_params, k_xs = jax.random.split(jax.random.key(0))
    params = cell.init(k_params, shape.D)
    xs = jax.random.normal(k_xs, (shape.T, shape.B, shape.D))
    ways = {name: backward(cell, engine) for name, engine in ENGINES.items()}
    ways |= {name: forward(rule(cell)) for name, rule in RULES.items()}
    compare(ways, params, xs)
    programs = {}
    for name, graded in ways.items():
        report(f"{name}: compiling")
        programs[name] = jax_program(graded, params, xs)
    report("timing")
    calls = {name: program.call for name, program in programs.items()}
    group = {"cell": kind, **shape.columns}
    rows = timing.contestant_rows(timing.interleave(calls, seconds), BACKWARD, group)
    return [row | {"temp_mib": programs[row["contestant"]].temp_mib} for row in rows]


def page(rows: list[Row]) -> str:
    """Show times and memory."""
    groups = split_groups(rows, KEYS).values()
    labels, sections = pages.columns(*KEYS), []
    shows = {"ms": pages.spread("ms"), "MiB of temporaries": pages.number("temp_mib")}
    for title, show in shows.items():
        table = pages.grid(groups, labels, pages.contestants(rows), show, texts=1)
        sections.append(f"## {title}\n\n{table}")
    return pages.page("Gradients forward in time", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="online",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS, "temp_mib"],
    groups=groups,
    page=page,
)
