"""seqcells against a hand-written scan and other frameworks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, get_args

from rich.console import Console
from tyro.conf import arg

from benchmarks.harness import benchmark, machine, pages
from benchmarks.harness.benchmark import Benchmark, Group, Picture
from benchmarks.harness.contestants import OURS, PEERS, SPLIT, PeerName
from benchmarks.harness.problem import CELLS, SHAPES, CellName, Shape, ShapeNames, parse_shape
from benchmarks.harness.programs import What
from benchmarks.harness.tables import Row, split_groups
from benchmarks.suites.peers.compare import COLUMNS, KEYS, LIMIT, measure
from benchmarks.suites.peers.picture import TITLES, draw
from experiments.lab import say

TEXT = """\
Medians over interleaved rounds, quartiles in brackets. "Speed over best" is the time of the
fastest peer over that of seqcells, round by round: above 1, seqcells is faster. "Of the cores" is
the same for a batch that is split over the cores, by `sc.cores()`; the other contestants share the
cores as they do by themselves. A peer whose cell does less work, or whose outputs differ, is never
the fastest. The GEMM limit is the same multiplications as a few large products, three times those
of the forward pass for training. Each framework has its usual layout, weights and inputs in
float32; a name with "unroll" has 8 steps in an iteration of its loop, "remat" computes a step again
in the backward pass, "columns" holds [H, B] with weights transposed once, "joined" multiplies input
and carry at once. Before they were timed, outputs were compared with those of seqcells on the same
weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure seqcells against a hand-written scan and other frameworks."""

    shapes: Annotated[
        ShapeNames, arg(help_behavior_hint="(default: all, or none if --shape is given)")
    ] = ()
    shape: Annotated[tuple[str, ...], arg(help_behavior_hint="")] = ()
    """other shapes, as B,T,I,H: sequences, steps, inputs and units"""
    cells: tuple[CellName, ...] = tuple(CELLS)
    """cells to measure"""
    what: tuple[What, ...] = get_args(What)
    """passes to measure: training is the value of a loss and its gradient"""
    peers: tuple[PeerName, ...] = tuple(PEERS)
    """contestants besides seqcells; those that are not installed are left out"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()

    @contextlib.contextmanager
    def session(self) -> Iterator[float]:
        """Pin the process; with several cores, make them JAX devices too."""
        machine.prepare(self.cores, devices=self.cores)
        yield math.inf

    def sizes(self) -> list[Shape]:
        """Return the shapes to measure."""
        given = [SHAPES[name] for name in self.shapes] + [parse_shape(s) for s in self.shape]
        return given or list(SHAPES.values())


def groups(settings: Settings) -> Iterator[Group]:
    """List every cell at every shape."""
    peers = installed(settings.peers)
    for kind, shape in itertools.product(settings.cells, settings.sizes()):
        job = functools.partial(measure, kind, shape, settings.what, peers, settings.seconds)
        yield Group(f"{kind} {shape.name}", job)


def installed(names: Iterable[str]) -> list[str]:
    """Return the peers that can be imported; print how to install the others."""
    found = []
    for name in names:
        try:
            PEERS[name].load()
        except ImportError as error:
            hint = f"{name} is left out ({error}); pip install {PEERS[name].package}"
            say(Console(), hint)
        else:
            found.append(name)
    return found


def page(rows: list[Row]) -> str:
    """Show the times of all contestants, memory and compile time."""
    names = [OURS.name, SPLIT.name, *PEERS, LIMIT]
    names = [name for name in names if name in pages.contestants(rows)]
    versions = dict.fromkeys(row["version"] for row in rows)
    sections = [f"Versions: {', '.join(versions)}."]
    for what, title in TITLES.items():
        some = split_groups([row for row in rows if row["what"] == what], KEYS).values()
        if some:
            sections += [f"## {title}, ms\n\n{_times(some, names)}"]
            sections += [f"## {title}, MiB of temporaries\n\n{_numbers(some, names, 'temp_mib')}"]
            compiled = _numbers(some, names, "compile_ratio")
            sections += [f"## {title}, compile time over that of naive\n\n{compiled}"]
    return pages.page("seqcells beside its peers", TEXT, rows, sections + _remarks(rows))


def _times(groups: Iterable[list[Row]], names: list[str]) -> str:
    labels = pages.columns("cell", "shape") | pages.SIZES
    labels |= {"speed over best": _speed}
    labels |= {"of the cores": _split} if SPLIT.name in names else {}
    labels |= {"best": _best}
    return pages.grid(groups, labels, names, pages.number("ms"), texts=3)


def _speed(group: list[Row]) -> str:
    return next((pages.spread("ratio")(row) for row in group if row["best"]), pages.NONE)


def _split(group: list[Row]) -> str:
    """Show the speed of the batch that is split over the cores, relative to the best peer."""
    best = next((row["ratio"] for row in group if row["best"]), math.nan)
    own = next((row["ratio"] for row in group if row["contestant"] == SPLIT.name), math.nan)
    return pages.NONE if math.isnan(best / own) else f"{best / own:.2f}"


def _best(group: list[Row]) -> str:
    return next((row["contestant"] for row in group if row["best"]), pages.NONE)


def _numbers(groups: Iterable[list[Row]], names: list[str], column: str) -> str:
    """Format one number for each contestant that has one."""
    labels, show = pages.columns("cell", "shape") | pages.SIZES, pages.number(column)
    return pages.grid(groups, labels, pages.with_numbers(groups, names, show), show, texts=3)


def _remarks(rows: list[Row]) -> list[str]:
    """List contestants that compute another function, and those that were not timed."""
    others = [
        f"{row['contestant']}, {row['cell']}: {row['computes']}"
        for row in rows
        if row["contestant"] != LIMIT and row["computes"] != f"{row['cell']}(H)"
    ]
    wrong = [
        f"{row['contestant']}, {row['cell']} at {row['shape']}, {row['what']}: {row['status']}"
        for row in rows
        if row["status"] != "ok"
    ]
    lists = {"Computing another function": others, "Not timed": wrong}
    return [part for title, lines in lists.items() for part in pages.bullets(title, lines)]


BENCHMARK = Benchmark(
    name="peers",
    settings=Settings,
    keys=KEYS,
    columns=COLUMNS,
    groups=groups,
    page=page,
    picture=Picture("peers-speed.png", draw),
)
