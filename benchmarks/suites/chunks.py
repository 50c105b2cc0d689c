"""Matrix memories in chunks of several sizes, beside the same cell step by step."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, get_args

import jax
from tyro.conf import arg
from tyro.extras import literal_type_from_choices

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import Inputs, Params, Shape, parse_shape
from benchmarks.harness.programs import What, compare, jax_program, training
from benchmarks.harness.tables import Row, split_groups

STEPS = "steps"
WAYS = {STEPS: sc.Scan()} | {f"chunks of {n}": sc.Chunkwise(n) for n in (16, 32, 64, 128)}
KINDS = {"MLSTM": sc.MLSTM, "GatedDeltaNet": sc.GatedDeltaNet, "RetNet": sc.RetNet}
SIZES = ("1,512,1,16", "1,512,4,64", "8,512,4,32", "8,512,1,64", "8,64,4,32", "32,512,4,16")
KEYS = ["cell", "what", "B", "T", "heads", "K"]
TEXT = """\
Cells with a matrix memory by `Chunkwise` in chunks of several sizes, beside `Scan()`, which takes
step by step. V is K, and inputs have heads * K features. Medians over interleaved rounds, quartiles
in brackets. Outputs were compared before."""

if TYPE_CHECKING:
    KindName = str
else:  # choices of the command line
    KindName = literal_type_from_choices(KINDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure matrix memories in chunks of several sizes, against step by step."""

    seconds: float = 2.0
    """seconds to time each group; at least five rounds are run"""
    shape: Annotated[tuple[str, ...], arg(help_behavior_hint=f"(default: {' '.join(SIZES)})")] = (
        SIZES
    )
    """shapes to measure, as B,T,heads,K: sequences, steps, heads and the size of a key"""
    cells: tuple[KindName, ...] = tuple(KINDS)
    """cells to measure"""
    what: tuple[What, ...] = get_args(What)
    """passes to measure: training is the value of a loss and its gradient"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()

    def sizes(self) -> list[Shape]:
        """Return the shapes to measure, with heads for D and K for H."""
        return [parse_shape(text) for text in self.shape]


def groups(settings: Settings) -> Iterator[Group]:
    """List every cell at every shape, forward and training."""
    for shape, kind, what in itertools.product(settings.sizes(), settings.cells, settings.what):
        job = functools.partial(measure, kind, shape, what, settings.seconds)
        yield Group(f"{kind} {shape.name} {what}", job)


def measure(kind: str, shape: Shape, what: What, seconds: float, report: Report) -> list[Row]:
    """Time a cell by each engine; return a row for each."""
    heads, width = shape.D, shape.D * shape.H
    cell = KINDS[kind](width, heads=heads)
    k_params, k_xs = jax.random.split(jax.random.key(0))
    params, xs = cell.init(k_params, width), jax.random.normal(k_xs, (shape.T, shape.B, width))

    def run(params: Params, xs: Inputs, engine: sc.Engine) -> jax.Array:
        return sc.unroll(cell, params, xs, engine=engine)[1]

    ways = {name: functools.partial(run, engine=engine) for name, engine in WAYS.items()}
    compare(ways, params, xs)
    programs = {}
    for name, forward in ways.items():
        report(f"{name}: compiling")
        programs[name] = jax_program(
            forward if what == "forward" else training(forward), params, xs
        )
    report("timing")
    calls = {name: program.call for name, program in programs.items()}
    group = {"cell": kind, "what": what, "B": shape.B, "T": shape.T, "heads": heads, "K": shape.H}
    rows = timing.contestant_rows(timing.interleave(calls, seconds), STEPS, group)
    return [row | {"temp_mib": programs[row["contestant"]].temp_mib} for row in rows]


def page(rows: list[Row]) -> str:
    """Show times, and the memory of training."""
    sections = []
    for (what,), some in split_groups(rows, ["what"]).items():
        groups, labels = split_groups(some, KEYS).values(), pages.columns("cell", *KEYS[2:])
        shows = {"ms": pages.spread("ms"), "MiB of temporaries": pages.number("temp_mib")}
        for title, show in shows.items():
            table = pages.grid(groups, labels, pages.contestants(some), show, texts=1)
            sections.append(f"## {what.capitalize()}, {title}\n\n{table}")
    return pages.page("Matrix memories in chunks", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="chunks",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS, "temp_mib"],
    groups=groups,
    page=page,
)
