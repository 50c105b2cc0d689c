"""The quality of the chosen schedule: its time over the best of a grid, for random shapes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import get_args

import jax
import numpy as np

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import CELLS, GATES, Params, Shape, draw_inputs, draw_params
from benchmarks.harness.programs import What, training
from benchmarks.harness.tables import Row, split_groups
from benchmarks.harness.timing import Call
from experiments.lab import markdown

KINDS = ("GRU", "LSTM")
RANGES = {"B": (1, 128), "T": (20, 2000), "D": (1, 512), "H": (8, 1024)}
OPERATIONS = (2e7, 3e9)  # of a pass of the LSTM: smaller ones show little, larger ones take long
KEEPS = ((), ("mixed",), ("drive", "mixed"), ("slopes",))
PRODUCTS = ("joined", "columns")  # the other candidates use "rows"
CHUNKS = (8, 32, 10**6)  # the last chunk is a window of all steps
OURS = "chosen"
KEYS = ["cell", "what", "B", "T", "I", "H"]
TEXT = """\
Shapes are drawn from a seed, log-uniform. For each, the schedule that seqcells chooses is timed
beside `Scan()` and a grid of `Deferred(chunk, keep, project_ahead, product)`. The best of the grid
is picked in one run, and the chosen schedule is compared with it in another: regret is the ratio of
the two times. Medians over interleaved rounds, quartiles in brackets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure the chosen schedule against the best of a grid, for random shapes."""

    seconds: float = 2.0
    """seconds to time each of the two runs of a shape"""
    shapes: int = 40
    """number of shapes"""
    seed: int = 1
    """seed of the shapes"""
    whats: tuple[What, ...] = get_args(What)
    """passes to measure"""


def draw_shapes(count: int, seed: int) -> Iterator[tuple[str, Shape]]:
    """Draw cells and shapes whose work lies within `OPERATIONS`."""
    rng = np.random.default_rng(seed)
    while count:
        logs = {name: rng.uniform(math.log(a), math.log(b)) for name, (a, b) in RANGES.items()}
        sizes = {name: round(math.exp(value)) for name, value in logs.items()}
        shape, kind = Shape("drawn", **sizes), str(rng.choice(KINDS))
        work = 2 * shape.B * shape.T * (shape.D + shape.H) * GATES["LSTM"] * shape.H
        if OPERATIONS[0] <= work <= OPERATIONS[1]:
            yield kind, shape
            count -= 1


def groups(settings: Settings) -> Iterator[Group]:
    """List both passes of every shape."""
    for kind, shape in draw_shapes(settings.shapes, settings.seed):
        for what in settings.whats:
            sizes = ",".join(map(str, shape.columns.values()))
            job = functools.partial(measure, kind, shape, what, settings.seconds)
            yield Group(f"{kind} {sizes} {what}", job)


def grid(kind: str, shape: Shape, what: What) -> dict[str, sc.Engine]:
    """Return the engines to try, by name; residuals matter only in training.

    Each product is tried with the chosen chunk, and with the residuals that it can keep.
    """
    keeps = KEEPS if what == "training" else ((),)
    tried: dict[str, sc.Engine] = {"Scan()": sc.Scan()}
    for chunk, keep, ahead in itertools.product(CHUNKS, keeps, (False, True)):
        if what == "training" or ahead or chunk == CHUNKS[0]:  # otherwise the chunk has no effect
            engine = sc.Deferred(chunk=chunk, keep=keep, project_ahead=ahead)
            tried[_label(engine)] = engine
    for product, keep, ahead in itertools.product(PRODUCTS, keeps, (False, True)):
        engine = sc.Deferred(keep=keep, project_ahead=ahead, product=product)
        with contextlib.suppress(ValueError):  # not possible for this cell, or with these options
            chosen = select(kind, shape, engine)
            tried[_label(chosen)] = chosen
    return tried


def select(kind: str, shape: Shape, engine: sc.Engine | None = None) -> sc.Engine:
    """Return an engine with all its options set; for None, the one that seqcells chooses."""
    xs = jax.ShapeDtypeStruct((shape.T, shape.B, shape.D), "float32")
    return sc.select_engine(CELLS[kind](shape.H), xs, engine=engine)


def _label(engine: sc.Engine) -> str:
    """Return the label of a schedule in a table."""
    if not isinstance(engine, sc.Deferred):
        return str(engine)
    chunk = "T" if engine.chunk == CHUNKS[-1] else engine.chunk
    keep = "+".join(engine.keep or ()) or "-"
    ahead = " ahead" if engine.project_ahead else ""
    product = "" if engine.product in (None, "rows") else f" {engine.product}"
    return f"chunk={chunk} keep={keep}{ahead}{product}"


def measure(kind: str, shape: Shape, what: What, seconds: float, report: Report) -> list[Row]:
    """Pick the best of the grid, then time it against the chosen schedule; return one row."""
    tried, calls = grid(kind, shape, what), {}
    for name, engine in {OURS: None, **tried}.items():
        report(f"{name}: compiling")
        calls[name] = _compile(kind, shape, what, engine)
    report("timing the grid")
    first = timing.interleave({name: calls[name] for name in tried}, seconds)
    best = timing.fastest(first, first)
    assert best is not None  # the grid is not empty
    report("timing the chosen schedule and the best of the grid")
    times = timing.interleave({OURS: calls[OURS], best: calls[best]}, seconds)
    group = {"cell": kind, "what": what} | shape.columns
    rows = timing.contestant_rows(times, best, group)
    return [row | {"best": best, "chosen": _label(select(kind, shape))} for row in rows[:1]]


def _compile(kind: str, shape: Shape, what: What, engine: sc.Engine | None) -> Call:
    cell = CELLS[kind](shape.H)

    def forward(params: Params, xs: jax.Array) -> jax.Array:
        return sc.unroll(cell, params, xs, engine=engine)[1]

    f = forward if what == "forward" else training(forward)
    args = draw_params(cell, shape.D), draw_inputs(shape)
    compiled = jax.jit(f).lower(*args).compile()
    return lambda: jax.block_until_ready(compiled(*args))


def page(rows: list[Row]) -> str:
    """Show the regret of each pass, and of each shape."""
    kinds = split_groups(rows, ["what"])
    lines = [
        [what, str(len(own)), *(f"{np.quantile(ratios, q):.2f}" for q in (0.5, 0.9, 1.0))]
        for (what,), own in kinds.items()
        for ratios in [[row["ratio"] for row in own]]
    ]
    head = ["", "shapes", "median", "90th percentile", "largest"]
    sections = [f"## Regret\n\n{markdown(head, lines, texts=1)}"]
    labels = pages.columns("cell") | pages.SIZES | pages.columns("chosen", "best")
    for (what,), own in kinds.items():
        ordered = sorted(own, key=lambda row: -row["ratio"])
        cases, show = [[row] for row in ordered], pages.spread("ratio")
        table = pages.grid(cases, labels, [OURS], show, texts=4)
        sections.append(f"## {what.capitalize()}, shape by shape\n\n{table}")
    return pages.page("Regret of the chosen schedule", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="schedule",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS, "chosen", "best"],
    groups=groups,
    page=page,
)
