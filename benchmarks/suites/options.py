"""The effect of each option of `Deferred`: seqcells with one changed, against its choice."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Annotated, get_args

import jax
from tyro.conf import arg

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import (
    CELLS,
    CellName,
    Params,
    Shape,
    draw_inputs,
    draw_params,
    parse_shape,
)
from benchmarks.harness.programs import What, jax_program, training
from benchmarks.harness.tables import Row, split_groups

OURS = "chosen"
WHOLE = 10**6  # steps: more than any shape has
OPTIONS = {
    "rows": sc.Deferred(product="rows"),
    "joined": sc.Deferred(product="joined"),
    "columns": sc.Deferred(product="columns"),
    "ahead": sc.Deferred(project_ahead=True),
    "not ahead": sc.Deferred(project_ahead=False),
    "keep nothing": sc.Deferred(keep=()),
    "keep drive and mixed": sc.Deferred(keep=("drive", "mixed")),
    "keep slopes": sc.Deferred(keep=("slopes",)),
    "one window": sc.Deferred(chunk=WHOLE),
    "windows of 1": sc.Deferred(chunk=1),
}
LONG = ("8,10000,16,32", "32,512,128,128", "16,256,512,512", "16,50,128,1024")
KEYS = ["cell", "what", "B", "T", "I", "H"]
TEXT = """\
seqcells with one option of `Deferred` changed, beside what it chooses: time over that of the
choice. A dash stands where the choice is that option, or a cell does not have it. Medians over
interleaved rounds, quartiles in brackets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure seqcells with one option of `Deferred` changed, against its choice."""

    seconds: float = 4.0
    """seconds to time each group; at least five rounds are run"""
    shape: Annotated[tuple[str, ...], arg(help_behavior_hint=f"(default: {' '.join(LONG)})")] = LONG
    """shapes to measure, as B,T,I,H: sequences, steps, inputs and units"""
    cells: tuple[CellName, ...] = ("GRU", "LSTM")
    """cells to measure"""
    what: tuple[What, ...] = get_args(What)
    """passes to measure: training is the value of a loss and its gradient"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()

    def sizes(self) -> list[Shape]:
        """Return the shapes to measure."""
        return [parse_shape(text) for text in self.shape]


def groups(settings: Settings) -> Iterator[Group]:
    """List every cell at every shape, forward and training."""
    for kind, shape, what in itertools.product(settings.cells, settings.sizes(), settings.what):
        job = functools.partial(measure, kind, shape, what, settings.seconds)
        yield Group(f"{kind} {shape.name} {what}", job)


def engines(cell: sc.Cell, xs: jax.Array) -> dict[str, sc.Engine]:
    """Return the chosen engine, and the engines with one option given, by name."""
    found = {OURS: sc.select_engine(cell, xs)}
    for name, option in OPTIONS.items():
        whole = dataclasses.replace(option, chunk=len(xs)) if option.chunk == WHOLE else option
        with contextlib.suppress(ValueError):  # this cell cannot
            engine = sc.select_engine(cell, xs, engine=whole)
            if engine not in found.values():
                found[name] = engine
    return found


def measure(kind: str, shape: Shape, what: What, seconds: float, report: Report) -> list[Row]:
    """Time seqcells with each option; return a row for each."""
    cell, xs = CELLS[kind](shape.H), draw_inputs(shape)
    params, calls = draw_params(cell, shape.D), {}
    for name, engine in engines(cell, xs).items():
        report(f"{name}: compiling")

        def forward(params: Params, xs: jax.Array, engine: sc.Engine = engine) -> jax.Array:
            return sc.unroll(cell, params, xs, engine=engine)[1]

        f = forward if what == "forward" else training(forward)
        calls[name] = jax_program(f, params, xs).call
    report("timing")
    group = {"cell": kind, "what": what} | shape.columns
    return timing.contestant_rows(timing.interleave(calls, seconds), OURS, group)


def page(rows: list[Row]) -> str:
    """Show each option's time over that of the choice."""
    ratio, labels = pages.spread("ratio"), pages.columns("cell") | pages.SIZES
    sections = []
    for (what,), some in split_groups(rows, ["what"]).items():
        groups = split_groups(some, KEYS).values()
        names = [n for n in OPTIONS if n in pages.contestants(some)]
        table = pages.grid(groups, labels, names, ratio, texts=2)
        sections.append(f"## {what.capitalize()}, time over that of the choice\n\n{table}")
        own = pages.grid(groups, labels, [OURS], pages.spread("ms"), texts=2)
        sections.append(f"## {what.capitalize()}, ms of the choice\n\n{own}")
    return pages.page("What each option of `Deferred` is worth", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="options",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
)
