"""The picture of `peers`: how fast each contestant is relative to the fastest peer."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.harness.contestants import COLOURS, OURS, PEERS
from benchmarks.harness.pictures import INK, PALE, styled
from benchmarks.harness.tables import Row
from experiments.lab import save
from seqcells.diagnostics._axes import wrap

TITLES = {"forward": "Forward pass", "training": "Value and gradient"}
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
TIMES = "\N{MULTIPLICATION SIGN}"
FAR = 1000  # times faster or slower, beyond which a time is an error of measurement


@styled
def draw(rows: list[Row], path: Path) -> None:
    """Draw a panel for each cell and pass, with a line for each shape."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    whats = [what for what in TITLES if any(row["what"] == what for row in rows)]
    shapes = {cell: _shapes(rows, cell) for cell in cells}
    heights = [len(shapes[cell]) + 0.8 for cell in cells]
    size = (9.2, 1.3 + 0.26 * sum(heights))
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    panels = figure.subplots(
        len(cells), len(whats), sharex=True, squeeze=False, height_ratios=heights
    )
    for i, cell in enumerate(cells):
        for j, what in enumerate(whats):
            _draw_panel(panels[i][j], rows, cell, what, shapes[cell])
            panels[i][j].set_title(f"{cell}: {TITLES[what].lower()}")
            if j:
                panels[i][j].set_yticklabels([])
    _set_speeds(panels[0][0])
    figure.supxlabel(_note(rows), fontsize=9.5)
    _draw_legend(figure, rows)
    save(figure, path)


def _note(rows: list[Row]) -> str:
    """Describe what is drawn, and on which machine it was measured."""
    hollow = any(row["cell"] in _lighter(row["contestant"]) for row in rows)
    where = dict.fromkeys(f"{row['machine']}, cores: {row['cores']}" for row in rows)
    lines = ["speed relative to the fastest peer; right is faster"]
    lines += ["hollow: its cell does less work"] * hollow
    lines = ["; ".join(lines), f"shapes: batch, steps, features, units; {'; '.join(where)}"]
    if lost := sum(not _drawn(row) for row in rows):
        lines.append(f"not drawn: {lost} of {len(rows)} times, which are not finite or too far off")
    return "\n".join(wrap(line, 116) for line in lines)


def _drawn(row: Row) -> bool:
    """Whether a time is drawn: it is finite, above 0, and so is what it is relative to."""
    return 1 / FAR <= row["ratio"] <= FAR


def _lighter(name: str) -> dict[str, str]:
    return PEERS[name].lighter if name in PEERS else {}


def _shapes(rows: list[Row], cell: str) -> dict[str, str]:
    """Return the shapes of a cell, and the label of each."""
    return {
        row["shape"]: f"{row['shape']}  {row['B']}, {row['T']}, {row['I']}, {row['H']}"
        if row["shape"].startswith("S")
        else row["shape"]
        for row in rows
        if row["cell"] == cell
    }


def _draw_panel(axes: Axes, rows: list[Row], cell: str, what: str, shapes: dict[str, str]) -> None:
    axes.axvline(1, color=PALE, linewidth=1, zorder=0)
    for y, shape in enumerate(shapes):
        group = [r for r in rows if (r["cell"], r["what"], r["shape"]) == (cell, what, shape)]
        axes.axhline(y, color="#EEEEEE", linewidth=0.8, zorder=0)
        _draw_line(axes, y, group)
    axes.set_yticks(range(len(shapes)), list(shapes.values()))
    axes.set_ylim(len(shapes) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _draw_line(axes: Axes, y: int, group: list[Row]) -> None:
    """Draw a shape: a dot for each framework at its best, a diamond for seqcells.

    A dot is hollow if the framework's cell does less work.
    """
    best = next((row for row in group if row["best"]), None)
    place = {"xytext": (1.01, y), "textcoords": axes.get_yaxis_transform(), "va": "center"}
    if best is None or not _drawn(best):
        axes.annotate("-", (1, y), annotation_clip=False, **place)
        return
    timed = [row for row in group if row["contestant"] in PEERS and _drawn(row)]
    for row in sorted(timed, key=lambda row: -row["ratio"]):  # the fastest of a framework on top
        name = _framework(row["contestant"])
        if row["ratio"] > min(r["ratio"] for r in timed if _framework(r["contestant"]) == name):
            continue
        fill = "white" if row["cell"] in _lighter(name) else COLOURS[name]
        speed = best["ratio"] / row["ratio"]
        axes.plot(speed, y, "o", color=COLOURS[name], markerfacecolor=fill, markersize=5)
    low, ours, high = best["ratio_low"], best["ratio"], best["ratio_high"]
    axes.plot([1, ours], [y, y], color=INK, linewidth=1.4)
    axes.plot([low, high], [y, y], color=INK, linewidth=4, alpha=0.3, solid_capstyle="butt")
    axes.plot(ours, y, "D", color=INK, markersize=6)
    axes.annotate(f"{TIMES}{ours:.2f}", (1, y), fontweight="bold", annotation_clip=False, **place)


def _framework(name: str) -> str:
    """Return the contestant whose options another one changes: of "naive-unroll", "naive"."""
    return name.partition("-")[0]


def _set_speeds(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator([t for t in TICKS if low <= t <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{TIMES}{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_legend(figure: Figure, rows: list[Row]) -> None:
    names = dict.fromkeys(
        _framework(name) for name in PEERS if any(row["contestant"] == name for row in rows)
    )
    marks = [Line2D([], [], color=INK, marker="D", markersize=6, linestyle="none")]
    marks += [
        Line2D([], [], color=COLOURS[name], marker="o", markersize=5, linestyle="none")
        for name in names
    ]
    figure.legend(
        marks, [OURS.name, *names], loc="outside upper center", ncols=len(marks), frameon=False,
        handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip
