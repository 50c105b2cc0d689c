"""What pictures share: colours, marks, and the share of runs that solved a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from experiments.lab.claims import Count, Frame, count, pick
from seqcells.diagnostics.plot import OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

P = TypeVar("P", bound=float)  # a place along an axis
COLOURS = OKABE_ITO[:7]
MARKERS = ("o", "s", "v", "^", "D", "P", "X")
STYLE: dict[RcKeyType, float | str | bool] = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@matplotlib.rc_context(STYLE)
def draw_success(
    frame: Frame, path: Path, x: str = "length", panel: str = "task", label: str = "length, steps"
) -> None:
    """Draw a panel for each value of a column: the share solved by `x`, a line an arm.

    Args:
        frame: pandas rows of runs, with the columns arm, solved, `x` and `panel`.
        path: the file.
        x: the column along the axis.
        panel: the column that tells panels apart.
        label: of the axis.
    """
    panels, arms = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame["arm"]))
    engine = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06)
    figure = Figure(figsize=(1.6 + 4.2 * len(panels), 4.9), dpi=140, layout=engine)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, name in zip(row, panels, strict=True):
        part = frame[frame[panel] == name]
        places = sorted(set(part[x]))
        counts = {
            arm: {place: count(pick(part, arm=arm, **{x: place})) for place in places}
            for arm in arms
        }
        draw_counts(axes, counts, arms, "{:g}".format)
        axes.set_title(str(name))
        axes.set_xlabel(label)
        axes.set(xlim=(-0.6, len(places) - 0.4), ylim=(-0.04, 1.04))
    row[0].set_ylabel("share of seeds that solve it")
    lines = {h.get_label(): h for axes in row for h in axes.get_legend_handles_labels()[0]}
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside upper center",
        ncols=min(4, len(arms)),
        frameon=False,
    )
    figure.supxlabel("Bars: 95 % Wilson intervals.", fontsize=10.5, color="#555555")
    figure.savefig(path)


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
        axes: to draw on.
        counts: by arm and place; where no runs were counted, nothing is drawn.
        arms: all of the figure: its number decides the colour and mark of an arm, which stands a
            little beside the others.
        name: place -> its name along the axis.
        fade: opacity of lines and bars.
        style: arguments of `Axes.errorbar` that are not the default.
    """
    places = sorted({place for by_place in counts.values() for place in by_place})
    for arm, by_place in counts.items():
        i, drawn = arms.index(arm), {places.index(p): c for p, c in by_place.items() if c.n}
        if not drawn:
            continue
        at = np.array(list(drawn)) + (i - (len(arms) - 1) / 2) * 0.5 / len(arms)
        share = np.array([c.k / c.n for c in drawn.values()])
        ends = np.array([c.interval for c in drawn.values()]).T
        marks = {"marker": MARKERS[i], "markersize": 7, "mfc": COLOURS[i], "mec": COLOURS[i]}
        lines = {"color": to_rgba(COLOURS[i], fade), "linewidth": 1.6, "capsize": 3}
        lines["linestyle"] = "-" if len(places) > 1 else "none"
        axes.errorbar(at, share, np.abs(ends - share), label=arm, **{**marks, **lines, **style})
    axes.set_xticks(range(len(places)), list(map(name, places)))


@matplotlib.rc_context(STYLE)
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
    figure.savefig(path)
