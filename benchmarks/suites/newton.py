"""Newton's method for all steps at once, beside loops, at initialisation and after training."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from tyro.conf import arg
from tyro.extras import literal_type_from_choices

import seqcells as sc
from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import Inputs, Params, Shape, parse_shape
from benchmarks.harness.programs import What, compare, jax_program, training
from benchmarks.harness.tables import Row, split_groups

KINDS = {"GRU": sc.GRU, "RNN": sc.RNN, "MinGRU": sc.MinGRU}
WAYS: dict[str, sc.Engine | None] = {
    "scan": sc.Scan(),
    "selected": None,  # the engine that `unroll` selects
    "Newton": sc.Newton(),
    "Newton diagonal": sc.Newton("diagonal"),
}
Weights = Literal["initial", "trained"]
SIZES = ("1,1000,2,16", "16,1000,2,16", "16,1000,2,32")
KEYS = ["cell", "weights", "what", "B", "T", "I", "H"]
REACH, LENGTH, ROWS = 20, 100, 32  # of the task on which a cell is trained
TEXT = """\
A cell by `Newton` beside loops. Medians over interleaved rounds, quartiles in brackets. Outputs
were compared before; sequences that do not converge are run step by step within the same time.
`iterations` is the largest number of iterations of a sequence, and `converged` the share of the
sequences. Weights are those at initialisation, and those after training on the sign of the input 20
steps ago."""
MODEL = """\
A model, not a measurement: a loop that launches {launches} kernels for a step, at {launch} us each;
Newton with {iterations} iterations of a tree, with {rounds} kernels for a round, products at
{flops:.0e} operations per second, and blocks read and written at {bandwidth:.0e} bytes per second.
Sequences: {B}."""
GPU = {"launch": 2.0, "launches": 2, "rounds": 4, "flops": 5e13, "bandwidth": 4e12, "B": 16}

if TYPE_CHECKING:
    KindName = str
else:  # choices of the command line
    KindName = literal_type_from_choices(KINDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure Newton's method in time against loops, at initialisation and after training."""

    seconds: float = 2.0
    """seconds to time each group; at least five rounds are run"""
    shape: Annotated[tuple[str, ...], arg(help_behavior_hint=f"(default: {' '.join(SIZES)})")] = (
        SIZES
    )
    """shapes to measure, as B,T,I,H: sequences, steps, inputs and units"""
    cells: tuple[KindName, ...] = tuple(KINDS)
    """cells to measure"""
    weights: tuple[Weights, ...] = get_args(Weights)
    """weights to measure with"""
    updates: int = 500
    """updates of the training"""
    what: tuple[What, ...] = get_args(What)
    """passes to measure: training is the value of a loss and its gradient"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()

    def sizes(self) -> list[Shape]:
        """Return the shapes to measure."""
        return [parse_shape(text) for text in self.shape]


def groups(settings: Settings) -> Iterator[Group]:
    """List every cell at every shape, with all weights, forward and training."""
    choices = (settings.sizes(), settings.cells, settings.weights, settings.what)
    for shape, kind, weights, what in itertools.product(*choices):
        updates = settings.updates if weights == "trained" else 0
        job = functools.partial(measure, kind, shape, weights, what, updates, settings.seconds)
        yield Group(f"{kind} {shape.name} {weights} {what}", job)


def measure(
    kind: str,
    shape: Shape,
    weights: Weights,
    what: What,
    updates: int,
    seconds: float,
    report: Report,
) -> list[Row]:
    """Time a cell by each engine; return a row for each."""
    cell = KINDS[kind](shape.H)
    params = trained(cell, shape, updates)
    xs = jax.random.normal(jax.random.key(1), (shape.T, shape.B, shape.D))

    def run(params: Params, xs: Inputs, engine: sc.Engine | None) -> jax.Array:
        return sc.unroll(cell, params, xs, engine=engine)[1]

    engines = WAYS | ({"associative": sc.AssociativeScan()} if kind == "MinGRU" else {})
    ways = {name: functools.partial(run, engine=engine) for name, engine in engines.items()}
    compare(ways, params, xs)
    programs = {}
    for name, forward in ways.items():
        report(f"{name}: compiling")
        programs[name] = jax_program(
            forward if what == "forward" else training(forward), params, xs
        )
    report("timing")
    calls = {name: program.call for name, program in programs.items()}
    sizes = {"B": shape.B, "T": shape.T, "I": shape.D, "H": shape.H}
    group = {"cell": kind, "weights": weights, "what": what, **sizes}
    rows = timing.contestant_rows(timing.interleave(calls, seconds), "scan", group)
    for row in rows:
        engine = engines[row["contestant"]]
        row |= {"temp_mib": programs[row["contestant"]].temp_mib}
        row |= reached(cell, params, xs, engine)
    return rows


def reached(cell: sc.Cell, params: Params, xs: Inputs, engine: sc.Engine | None) -> Row:
    """Return how many iterations an engine takes, and the share of sequences that converge."""
    if not isinstance(engine, sc.Newton):
        return {"iterations": math.nan, "converged": math.nan}
    report = sc.diagnostics.newton_report(cell, params, xs, engine=engine)
    share = jnp.mean(report.converged, dtype="float32")
    return {"iterations": float(jnp.max(report.iterations)), "converged": float(share)}


def trained(cell: sc.Cell, shape: Shape, updates: int) -> Params:
    """Train a cell, with a linear readout, to tell the sign of the input `REACH` steps ago."""
    k_cell, k_readout, k_data = jax.random.split(jax.random.key(0), 3)
    params = cell.init(k_cell, shape.D), 0.1 * jax.random.normal(k_readout, (shape.H,))
    optimizer = optax.adam(1e-2)

    def loss(params: Params, key: jax.Array) -> jax.Array:
        xs = jax.random.normal(key, (LENGTH, ROWS, shape.D))
        ys = sc.unroll(cell, params[0], xs)[1][REACH:] @ params[1]
        return jnp.mean(optax.sigmoid_binary_cross_entropy(ys, xs[:-REACH, :, 0] > 0))

    def update(state: tuple, key: jax.Array) -> tuple[tuple, None]:
        params, memory = state
        changes, memory = optimizer.update(jax.grad(loss)(params, key), memory, params)
        return (optax.apply_updates(params, changes), memory), None

    keys = jax.random.split(k_data, updates)
    (params, _), _ = jax.jit(lambda *a: jax.lax.scan(update, *a))(
        (params, optimizer.init(params)), keys
    )
    return params[0]


def modelled(steps: int, units: int, iterations: int) -> dict[str, float]:
    """Return the ms of a loop and of Newton's method on a GPU, forward, by a model of the cost.

    An iteration multiplies about 2 T matrices by matrices in 2 log2 T rounds, and reads two blocks
    and writes one for each. Making the Jacobians takes one product more for each step.
    """
    rounds, matrices = 2 * math.log2(steps), 3 * steps * GPU["B"]
    work = max(
        2 * matrices * units**3 / GPU["flops"], 3 * matrices * 4 * units**2 / GPU["bandwidth"]
    )
    launches = (rounds * GPU["rounds"] + 10) * GPU["launch"] * 1e-6
    loop = steps * GPU["launches"] * GPU["launch"] * 1e-6
    one = launches + work
    moved = iterations * 3 * matrices * 4 * units**2
    return {"loop": 1e3 * loop, "newton": 1e3 * iterations * one, "gib": moved / 2**30}


def model(iterations: int) -> str:
    """Show the model for some sizes."""
    lines = ["| T | H | loop, ms | Newton, ms | GiB moved |", "|---|---|---|---|---|"]
    for steps, units in itertools.product((100, 1000, 10_000), (16, 32, 64, 128)):
        of = modelled(steps, units, iterations)
        numbers = " | ".join(f"{of[name]:.3g}" for name in ("loop", "newton", "gib"))
        lines.append(f"| {steps} | {units} | {numbers} |")
    return "\n".join(lines)


def page(rows: list[Row]) -> str:
    """Show times, iterations and memory, and the model of a GPU."""
    sections = []
    for (what,), some in split_groups(rows, ["what"]).items():
        groups = list(split_groups(some, KEYS).values())
        labels = pages.columns("cell", "weights", *KEYS[3:])
        shows = {"ms": pages.spread("ms"), "iterations": pages.number("iterations")}
        shows |= {"share that converged": pages.number("converged")}
        for title, show in shows.items():
            table = pages.grid(groups, labels, pages.contestants(some), show, texts=2)
            sections.append(f"## {what.capitalize()}, {title}\n\n{table}")
    for iterations in (4, 20):
        text = MODEL.format(**GPU, iterations=iterations)
        sections.append(
            f"## Model of a GPU, {iterations} iterations\n\n{text}\n\n{model(iterations)}"
        )
    return pages.page("Newton's method in time", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="newton",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "contestant", *timing.COLUMNS, "temp_mib", "iterations", "converged"],
    groups=groups,
    page=page,
)
