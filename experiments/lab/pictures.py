"""What pictures share: colours, marks, and the share of runs that solved a task."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from experiments.lab.claims import Count, Frame, count, pick
from experiments.lab.files import write_whole
from seqcells.diagnostics.plot import OKABE_ITO

P = TypeVar("P", bound=float)  # a place along an axis
Q = ParamSpec("Q")
T = TypeVar("T")
WIDTH = 7.4  # inches of a picture: on a phone, its letters are half as high as on paper
BESIDE = 6  # points from one arm's marks to the next
COLOURS = OKABE_ITO[:7]
MARKERS = ("o", "s", "v", "^", "D", "P", "X")
STYLE: dict[str, float | str | bool] = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def styled(draw: Callable[Q, T], style: Mapping[str, Any] = STYLE) -> Callable[Q, T]:
    """Return a function that draws in this style, whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def drawn(*args: Q.args, **named: Q.kwargs) -> T:
        with matplotlib.style.context(["default", dict(style)]):
            return draw(*args, **named)

    return drawn


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a picture: all of it, or an error that names the file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_whole(path, content.getvalue())


@styled
def draw_success(
    frame: Frame, path: Path, x: str = "length", panel: str = "task", label: str = "length, steps"
) -> None:
    """Draw a panel for each value of a column: the share solved by `x`, a line an arm.

    Args:
        frame: pandas rows of runs, with the columns arm, solved, `x` and `panel`.
        path: the file.
        x: the column along the axis, of positive numbers.
        panel: the column that tells panels apart.
        label: of the axis.
    """
    panels, arms = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame["arm"]))
    figure, all_axes = grid_of_panels(len(panels))
    for axes, name in zip(all_axes, panels, strict=True):
        part = frame[frame[panel] == name]
        places = sorted(set(part[x]))
        counts = {
            arm: {place: count(pick(part, arm=arm, **{x: place})) for place in places}
            for arm in arms
        }
        draw_counts(axes, counts, arms, "{:g}".format)
        axes.set_title(name if isinstance(name, str) else f"{panel} {name}")
        axes.set(xlabel=label, ylim=(-0.04, 1.04))
        if axes in all_axes[::2]:  # of the first column
            axes.set_ylabel("share of seeds that solve it")
    lines = {h.get_label(): h for axes in all_axes for h in axes.get_legend_handles_labels()[0]}
    add_legend(figure, lines)
    figure.supxlabel("Bars: 95 % Wilson intervals.", fontsize=10.5, color="#555555")
    save(figure, path)


def grid_of_panels(
    count: int, height: float = 4.0, above: float = 0.9
) -> tuple[Figure, list[Axes]]:
    """Make a figure of so many panels, two beside one another, which a phone can show.

    Args:
        count: of the panels.
        height: of a panel, inches.
        above: inches of the figure for its legend.
    """
    columns = min(2, count)
    rows = math.ceil(count / columns)
    engine = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06)
    figure = Figure(figsize=(WIDTH, above + height * rows), dpi=140, layout=engine)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one in axes[count:]:
        one.remove()
    return figure, axes[:count]


def add_legend(figure: Figure | SubFigure, handles: Mapping[Any, Any]) -> None:
    """Add a legend above the panels, in as many columns as the figure is wide."""
    for columns in (4, 3, 2, 1):
        legend = figure.legend(
            list(handles.values()),
            list(map(str, handles)),
            loc="outside upper center",
            ncols=columns,
            frameon=False,
        )
        figure.figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            return
        legend.remove()


def draw_counts(
    axes: Axes,
    counts: Mapping[str, Mapping[P, Count]],
    arms: Sequence[str],
    name: Callable[[P], str],
    fade: float = 1.0,
    **style: Any,
) -> None:
    """Draw which share solved it at each place along the axis, with its 95 % Wilson interval.

    Args:
        axes: to draw on; the axis is logarithmic.
        counts: by arm and place, a positive number; where no runs were counted, nothing is drawn.
        arms: all of the figure: its number decides the colour and mark of an arm, which stands a
            few points beside the others, not at another place.
        name: place -> its name along the axis.
        fade: opacity of lines and bars.
        style: arguments of `Axes.errorbar` that are not the default.
    """
    places = sorted({place for by_place in counts.values() for place in by_place})
    if not places:
        axes.set_xticks([])
        return
    axes.set_xscale("log")
    beside = BESIDE if len(places) > 1 else 2 * BESIDE
    for arm, by_place in counts.items():
        i, drawn = arms.index(arm), {p: c for p, c in by_place.items() if c.n}
        if not drawn:
            continue
        share = np.array([c.k / c.n for c in drawn.values()])
        ends = np.array([c.interval for c in drawn.values()]).T
        marks = {"marker": MARKERS[i], "markersize": 7, "mfc": COLOURS[i], "mec": COLOURS[i]}
        lines = {"color": to_rgba(COLOURS[i], fade), "linewidth": 1.6, "capsize": 3}
        lines["linestyle"] = "-" if len(places) > 1 else "none"
        lines["transform"] = axes.transData + ScaledTranslation(
            (i - (len(arms) - 1) / 2) * beside / 72, 0, axes.figure.dpi_scale_trans
        )
        given = {**marks, **lines, **style}
        axes.errorbar(list(drawn), share, np.abs(ends - share), label=arm, **given)
    axes.set_xticks(places, list(map(name, places)))
    axes.xaxis.set_minor_locator(NullLocator())
    room = (max(places) / min(places)) ** 0.12 if len(places) > 1 else 2.0
    axes.set_xlim(min(places) / room, max(places) * room)


@styled
def draw_grid(frame: Frame, path: Path) -> None:
    """Draw which share of runs solved each task, a row an arm, a column a task and length.

    Args:
        frame: pandas rows of runs, with the columns arm, task, length and solved.
        path: the file.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    places = list(dict.fromkeys(zip(frame["task"], frame["length"], strict=True)))
    by_place = {at: part["solved"] for at, part in frame.groupby(["arm", "task", "length"])}
    solved = [[by_place.get((arm, *place)) for place in places] for arm in arms]
    share = np.array([[math.nan if one is None else one.mean() for one in row] for row in solved])
    figure = Figure(figsize=(3.4 + 1.25 * len(places), 1.6 + 0.45 * len(arms)), dpi=140)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="share of seeds that solve it")
    for (i, j), value in np.ndenumerate(share):
        one, colour = solved[i][j], "black" if value > 0.6 else "white"
        text = "-" if one is None else f"{int(one.sum())} of {len(one)}"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(places)), [f"{task}\n{length} steps" for task, length in places])
    axes.set_yticks(range(len(arms)), arms)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save(figure, path)
