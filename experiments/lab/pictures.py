"""What pictures share: colours, marks, and the share of runs that solved a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from experiments.lab.claims import Count, Frame, count
from seqcells.diagnostics.plot import OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

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
def draw_success(frame: Frame, path: Path, x: str, panel: str, label: str) -> None:
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
        for i, arm in enumerate(arms):
            mine = part[part["arm"] == arm]
            counts = {k: count(mine[mine[x] == place]) for k, place in enumerate(places)}
            counts = {k: found for k, found in counts.items() if found.n}
            if counts:
                line = "-" if len(places) > 1 else "none"
                draw_shares(axes, counts, arm, i, len(arms), linestyle=line)
        axes.set_title(str(name))
        axes.set_xlabel(label)
        axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
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


def draw_shares(
    axes: Axes, counts: Mapping[int, Count], arm: str, i: int, arms: int, **style: Any
) -> ErrorbarContainer:
    """Draw which share solved it at each place along the axis, with its 95 % Wilson interval.

    Args:
        axes: to draw on.
        counts: by place.
        arm: the label.
        i: the arm's number: its colour and mark; it stands a little beside the others.
        arms: how many arms share the axes.
        style: arguments of `Axes.errorbar` that are not the default.
    """
    at = np.array(list(counts)) + (i - (arms - 1) / 2) * 0.5 / arms
    share = np.array([c.k / c.n for c in counts.values()])
    ends = np.array([c.interval for c in counts.values()]).T
    look = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 7, "linewidth": 1.6}
    return axes.errorbar(
        at, share, np.abs(ends - share), label=arm, **{**look, "capsize": 3, **style}
    )


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
