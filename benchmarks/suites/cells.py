"""Every other cell with its default engine, beside a scan by hand of the same equations."""

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
from benchmarks.harness.by_hand import TWINS, Twin, unroll
from benchmarks.harness.problem import Inputs, Params, Shape, parse_shape
from benchmarks.harness.programs import Forward, What, compare, jax_program, training
from benchmarks.harness.tables import Row, split_groups

OURS, HAND, SAVED = "seqcells", "by hand", "checkpoints"
SIZES = ("32,200,64,128", "16,200,16,64", "1,1000,32,64")
KEYS = ["cell", "what", "B", "T", "I", "H"]
TEXT = """\
Each cell with its default engine beside one `jax.lax.scan` of the same equations by hand: the time
of the scan over that of seqcells, round by round. Above 1, seqcells is faster. Medians over
interleaved rounds, quartiles in brackets. "Checkpoints" is `Scan(checkpoint="sqrt")`. Outputs were
compared before. RGLRU, S5 and Mamba read as many features as they have units."""

if TYPE_CHECKING:
    TwinName = str
else:  # choices of the command line
    TwinName = literal_type_from_choices(TWINS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure cells other than RNN, GRU and LSTM, against a scan by hand of each."""

    seconds: float = 4.0
    """seconds to time each group; at least five rounds are run"""
    shape: Annotated[tuple[str, ...], arg(help_behavior_hint=f"(default: {' '.join(SIZES)})")] = (
        SIZES
    )
    """shapes to measure, as B,T,I,H: sequences, steps, inputs and units"""
    cells: Annotated[
        tuple[TwinName, ...], arg(metavar="CELL [CELL ...]", help_behavior_hint="(default: all)")
    ] = tuple(TWINS)
    """cells to measure, by their class; an unknown one lists the others"""
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


def contestants(twin: Twin, cell: sc.Cell) -> dict[str, Forward]:
    """Return functions (params, xs) -> ys [T, B, ...], by name."""

    def run(params: Params, xs: Inputs, engine: sc.Engine | None = None) -> jax.Array:
        return sc.unroll(cell, params, xs, engine=engine)[1]

    return {
        OURS: run,
        HAND: functools.partial(unroll, twin, cell),
        SAVED: functools.partial(run, engine=sc.Scan(checkpoint="sqrt")),
    }


def measure(kind: str, shape: Shape, what: What, seconds: float, report: Report) -> list[Row]:
    """Time a cell in each way; return a row for each."""
    twin = TWINS[kind]
    cell, xs = twin.make(shape), twin.inputs(shape)
    params = draw_params(cell, xs)
    ways = contestants(twin, cell)
    compare(ways, params, xs)
    if what == "forward":
        del ways[SAVED]  # they save memory of the backward pass alone
    programs = {}
    for name, forward in ways.items():
        report(f"{name}: compiling")
        f = forward if what == "forward" else training(forward)
        programs[name] = jax_program(f, params, xs)
    report("timing")
    calls = {name: program.call for name, program in programs.items()}
    group = {"cell": kind, "what": what} | shape.columns
    rows = timing.contestant_rows(timing.interleave(calls, seconds), OURS, group)
    return [row | {"temp_mib": programs[row["contestant"]].temp_mib} for row in rows]


def draw_params(cell: sc.Cell, xs: Inputs) -> Params:
    """Draw parameters near the initial ones, of which none is exactly zero."""
    k_params, k_noise = jax.random.split(jax.random.key(0))
    x = jax.tree.map(lambda a: a[0], xs)
    leaves, structure = jax.tree.flatten(cell.init(k_params, cell.input_size(x)))
    keys = jax.random.split(k_noise, len(leaves))
    noise = (0.01 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True))
    return structure.unflatten([a + b for a, b in zip(leaves, noise, strict=True)])


def page(rows: list[Row]) -> str:
    """Show how fast each cell is, and the memory of training."""
    sections = []
    for (what,), some in split_groups(rows, ["what"]).items():
        groups, labels = split_groups(some, KEYS).values(), pages.columns("cell") | pages.SIZES
        names = pages.contestants(some)
        for title, show, shown in (
            (f"time over that of {OURS}", pages.spread("ratio"), names[1:]),
            ("ms", pages.spread("ms"), names),
            ("MiB of temporaries", pages.number("temp_mib"), names),
        ):
            table = pages.grid(groups, labels, shown, show, texts=2)
            sections.append(f"## {what.capitalize()}, {title}\n\n{table}")
    return pages.page("Cells beside scans by hand", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="cells",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS, "temp_mib"],
    groups=groups,
    page=page,
)
