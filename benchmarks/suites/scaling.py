"""The cost of a training step of a GRU by T, B and H, each varied around a centre."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.harness import benchmark, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Picture, Report
from benchmarks.harness.contestants import COLOURS, OURS, PEERS, Peer
from benchmarks.harness.pictures import styled
from benchmarks.harness.problem import Shape, draw_inputs, draw_params
from benchmarks.harness.programs import Program
from benchmarks.harness.tables import Row, split_groups
from experiments import lab

Axis = Literal["T", "B", "H"]
KEYS = ["axis", "value"]
NAMES = {"T": "steps T", "B": "sequences B", "H": "units H"}
CENTRE = Shape("centre", 16, 256, 32, 128)
VALUES = {
    "T": (64, 128, 256, 512, 1024, 2048, 4096),
    "B": (1, 4, 16, 64, 256),
    "H": (16, 32, 64, 128, 256, 512),
}
TEXT = """\
Value and gradient of mean(ys**2); one size varies at a time. Medians over interleaved rounds,
quartiles in brackets; exponents are slopes of logarithms."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.Settings):
    """Measure a training step by T, B and H, each varied around a centre."""

    axes: tuple[Axis, ...] = get_args(Axis)
    """sizes that vary, one at a time"""
    most: int = dataclasses.field(default=4096, metadata={"least": 16})
    """largest value; larger ones are left out"""


def groups(settings: Settings) -> Iterator[Group]:
    """List every value of every size."""
    for axis in settings.axes:
        for value in VALUES[axis]:
            if value <= settings.most:
                job = functools.partial(measure, axis, value, settings.seconds)
                yield Group(f"{axis} {value}", job)


def measure(axis: str, value: int, seconds: float, report: Report) -> list[Row]:
    """Time a training step with one size changed; return a row for each contestant."""
    shape, calls = CENTRE._replace(**{axis: value}), {}
    for peer in (OURS, PEERS["naive"]):
        report(f"{peer.name}: compiling")
        calls[peer.name] = _program(peer, shape).call
    report("timing")
    group = {"axis": axis, "value": value} | shape.columns
    return timing.contestant_rows(timing.interleave(calls, seconds), OURS.name, group)


def _program(peer: Peer, shape: Shape) -> Program:
    twin, xs = peer.cells["GRU"](shape.H), draw_inputs(shape)
    built = peer.build(twin, draw_params(twin, shape.D), shape)
    return peer.program(built, "training", peer.place(xs))


def page(rows: list[Row]) -> str:
    """Show how the cost grows with each size."""
    names, sections = pages.contestants(rows), []
    for (axis,), some in split_groups(rows, ["axis"]).items():
        groups = split_groups(some, ["value"]).values()
        table = pages.grid(groups, pages.SIZES, names, pages.spread("ms"), texts=1)
        sections += [f"## Against {axis}\n\n{table}", *_slopes(some, axis, names)]
    return pages.page("What a training step of a GRU costs", TEXT, rows, sections)


def _slopes(rows: list[Row], axis: str, names: list[str]) -> list[str]:
    """List the exponents: over all values, and between the last two; none for a single value."""
    lines = []
    for name in names:
        curve = [point for point in _curve(rows, name) if math.isfinite(point[1])]
        if len(curve) > 1:
            whole, end = (timing.slope(*zip(*part, strict=True)) for part in (curve, curve[-2:]))
            lines.append(f"- {name} grows as {axis}^{whole:.2f}, at the end as {axis}^{end:.2f}")
    return ["\n".join(lines)] if lines else []


def _curve(rows: list[Row], name: str) -> list[tuple[float, float]]:
    """Return (value, ms) of a contestant, sorted."""
    return sorted((row["value"], row["ms"]) for row in rows if row["contestant"] == name)


@styled
def draw(rows: list[Row], path: Path) -> None:
    """Draw a panel for each size: milliseconds of a training step."""
    good = lab.shown([row["ms"] for row in rows])
    figure = Figure(figsize=(9.2, 3.5), dpi=200, layout="constrained")
    panels = figure.subplots(1, len({row["axis"] for row in rows}), sharey=True, squeeze=False)[0]
    drawn = [row if ok else row | {"ms": math.nan} for row, ok in zip(rows, good, strict=True)]
    handles = {}
    for panel, ((axis,), own) in zip(panels, split_groups(drawn, ["axis"]).items(), strict=True):
        for name in pages.contestants(own):
            at, ms = zip(*_curve(own, name), strict=True)
            (handles[name],) = panel.plot(at, ms, "o-", color=COLOURS[name], markersize=4)
        values = sorted({row["value"] for row in own})
        panel.set(xscale="log", xlim=(values[0] / 1.4, values[-1] * 1.4), xlabel=NAMES[axis])
        panel.set_xticks(values, [str(value) for value in values])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_title(f"Against {axis}")
        panel.grid(axis="y", color="#EEEEEE")
    panels[0].set(yscale="log", ylabel="training step of a GRU, ms")
    if not good.any():
        panels[0].set_ylim(0.1, 10)
    lab.add_legend(figure, handles)
    if not good.all():
        lost = f"Not drawn: {(~good).sum()} of {len(rows)} times"
        lab.add_note(figure, f"{lost}, which are not finite, or beyond a million.")
    lab.save(figure, path)


BENCHMARK = Benchmark(
    name="scaling",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "B", "T", "I", "H", "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
    picture=Picture("scaling.png", draw),
)
