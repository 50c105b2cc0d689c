"""The cost of lengths, masks and resets: seqcells with each of them, against seqcells without."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import get_args

import jax
import jax.numpy as jnp

import seqcells as sc
from benchmarks.harness import benchmark, pages, problem, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import CELLS, SHAPES, CellName, Inputs, Params, Shape, ShapeNames
from benchmarks.harness.programs import What, jax_program, training
from benchmarks.harness.tables import Row, split_groups

NONE = "none"
KEYS = ["cell", "shape", "what"]
TEXT = """\
seqcells with lengths from T/2 to T, with the mask that says the same, and with a reset in one of a
hundred steps, beside seqcells without. Medians over interleaved rounds, quartiles in brackets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure seqcells with lengths, masks and resets, against seqcells without."""

    shapes: ShapeNames = ("S1", "S3", "S6")
    cells: tuple[CellName, ...] = tuple(CELLS)
    """cells to measure"""
    what: tuple[What, ...] = get_args(What)
    """passes to measure: training is the value of a loss and its gradient"""


def groups(settings: Settings) -> Iterator[Group]:
    """List every cell at every shape, forward and training."""
    for kind, name, what in itertools.product(settings.cells, settings.shapes, settings.what):
        yield Group(
            f"{kind} {name} {what}",
            functools.partial(measure, kind, SHAPES[name], what, settings.seconds),
        )


def draw(shape: Shape) -> dict[str, dict[str, jax.Array]]:
    """Draw lengths from T/2 to T, the equivalent mask, and one reset per hundred steps."""
    k_lengths, k_resets = jax.random.split(jax.random.key(2))
    lengths = jax.random.randint(k_lengths, (shape.B,), shape.T // 2, shape.T + 1)
    mask = jnp.arange(shape.T)[:, None] < lengths
    resets = jax.random.bernoulli(k_resets, 0.01, (shape.T, shape.B))
    given = {"lengths": lengths, "mask": mask, "resets": resets}
    return {NONE: {}} | {name: {name: flag} for name, flag in given.items()}


def measure(kind: str, shape: Shape, what: What, seconds: float, report: Report) -> list[Row]:
    """Time seqcells with each flag; return a row for each flag."""
    cell, xs = CELLS[kind](shape.H), problem.draw_inputs(shape)
    params, calls = problem.draw_params(cell, shape.D), {}

    def forward(params: Params, xs: Inputs) -> jax.Array:
        return sc.unroll(cell, params, xs[0], **xs[1])[1]

    f = forward if what == "forward" else training(forward)
    for name, flags in draw(shape).items():
        report(f"{name}: compiling")
        calls[name] = jax_program(f, params, (xs, flags)).call
    report("timing")
    group = {"cell": kind, "shape": shape.name, "what": what} | shape.columns
    return timing.contestant_rows(timing.interleave(calls, seconds), NONE, group)


def page(rows: list[Row]) -> str:
    """Show the cost of flags as ratios."""
    ratio, labels = pages.spread("ratio"), pages.columns("cell", "shape") | pages.SIZES
    sections = []
    for (what,), some in split_groups(rows, ["what"]).items():
        groups = split_groups(some, ["cell", "shape"]).values()
        names = pages.with_numbers(groups, pages.contestants(rows), ratio)
        table = pages.grid(groups, labels, names, ratio, texts=3)
        sections.append(f"## {what.capitalize()}, time over that without flags\n\n{table}")
    return pages.page("What lengths, masks and resets cost", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="flags",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "B", "T", "I", "H", "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
)
