"""What plots share: axes that need no LaTeX, what an axis shows, legends beside the curves."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from seqcells import _check

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#808080"
FAR = 1e6  # times the values before it: what is larger is left off an axis
VIEW = 25  # degrees above the horizon
ROW = 0.2  # inches of a row of a legend in small letters

# Labels of ours need no LaTeX, which a user's matplotlibrc may ask for where there is none.
PLAIN: dict[str, Any] = {"usetex": False, "parse_math": True}


def make(ax: Axes | None, projection: str | None = None) -> Axes:
    """Return the axes given, or new ones whose numbers need no LaTeX either."""
    if ax is not None:
        return ax
    plt = _check.extra("matplotlib.pyplot", "seqcells[plot]")
    with without_latex():
        how = {"projection": projection}
        size = (5.2, 3.4) if projection is None else (5.2, 4.6)
        return settle(plt.subplots(figsize=size, layout="constrained", subplot_kw=how)[1])


@contextlib.contextmanager
def without_latex() -> Iterator[None]:
    """Make texts that need no LaTeX.

    `rc_context` would put back all parameters: also that of an interactive session, which the first
    figure of a notebook turns on.
    """
    params = _check.extra("matplotlib", "seqcells[plot]").rcParams
    users = params["text.usetex"]
    params["text.usetex"] = False
    try:
        yield
    finally:
        params["text.usetex"] = users


def settle(ax: Axes) -> Axes:
    """Make the first tick of each axis, after which all others are made."""
    for axis in (ax.xaxis, ax.yaxis):
        _ = axis.get_major_ticks(1), axis.get_minor_ticks(1)
    return ax


def reach(values: np.ndarray) -> float:
    """Return the largest size that an axis shows, so that what diverged flattens nothing.

    It is 10^6 times the least size, or 10^6 if this is below 1.

    Args:
        values: float[N], all that the axis is for.
    """
    sizes = _sizes(values)
    return FAR * max(1.0, float(sizes[0])) if len(sizes) else np.inf


def reach_of_growth(values: np.ndarray) -> float:
    """Return the largest size before the first gap of six decades above 1.

    What grows by a factor a step leaves no such gap, and is shown however large it gets.

    Args:
        values: float[N], all that the axis is for.
    """
    sizes = _sizes(values)
    gaps = np.flatnonzero(sizes[1:] / FAR > np.maximum(sizes[:-1], 1))
    return float(sizes[gaps[0]]) if len(gaps) else np.inf


def _sizes(values: np.ndarray) -> np.ndarray:
    """Return the sizes of what is finite and not 0, the least first."""
    values = np.asarray(values, float)
    return np.sort(np.abs(values[np.isfinite(values) & (values != 0)]))


def left_out(values: np.ndarray, top: float = np.inf) -> str:
    """Say which share of values is not finite, and which is beyond the axis; nothing if none is."""
    finite = np.isfinite(values)
    kinds = {"not finite": ~finite, "off the axis": finite & (np.abs(values) > top)}
    parts = [
        f"{max(round(100 * int(some.sum()) / values.size), 1)} % {kind}"
        for kind, some in kinds.items()
        if some.any()
    ]
    return f" ({', '.join(parts)})" if parts else ""


def use_log(ax: Axes, which: str) -> None:
    """Make an axis logarithmic, also where there is nothing above 0 to show."""
    low, high = getattr(ax.dataLim, f"interval{which}")
    getattr(ax, f"set_{which}scale")("log", nonpositive="mask")
    if not (np.isfinite([low, high]).all() and high > 0):
        getattr(ax, f"set_{which}lim")(0.1, 10)


def edges(places: np.ndarray) -> np.ndarray:
    """Return the ends of cells about these places: halfway between neighbours.

    A single cell has a width of 1, or of its place where this is smaller than 1.

    Args:
        places: float[N], ascending.

    Returns:
        float[N + 1].
    """
    places = np.asarray(places, float)
    if len(places) == 1:
        half = min(abs(places[0]), 1.0) / 2 or 0.5
        return np.array([places[0] - half, places[0] + half])
    middles = (places[1:] + places[:-1]) / 2
    ends = 2 * places[[0, -1]] - middles[[0, -1]]
    return np.concatenate([ends[:1], middles, ends[1:]])


def alone(values: np.ndarray) -> dict[str, Any]:
    """Return how a line shows the points whose neighbours are both missing: by a dot."""
    there = np.pad(np.isfinite(values), 1)
    places = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:])
    return {"marker": "o", "ms": 4, "markevery": list(places)} if len(places) else {}


def show_whole(ax: Axes, first: int, last: int) -> None:
    """Show all whole numbers from the first to the last, also those at which nothing is drawn."""
    ax.update_datalim([(first, 0), (max(first, last), 0)], updatey=False)
    ax.autoscale_view(scaley=False)
    ax.locator_params("x", integer=True, min_n_ticks=1)


def label(ax: Axes, x: str, y: str, *, above: bool = False, grow: bool = False) -> None:
    """Label the axes, and named curves; the legend of crowded axes goes above them.

    Args:
        ax: the axes.
        x: of the abscissa.
        y: of the ordinate.
        above: whether the axes are crowded by few curves, too.
        grow: whether the figure is ours, and may grow by what the legend takes.
    """
    name(ax, x, y)
    ax.grid(color=GREY, alpha=0.2, lw=0.5)
    ax.set_axisbelow(True)
    names = ax.get_legend_handles_labels()[1]
    longest = max(map(len, names), default=0)
    if names and (above or len(names) > 4 or longest > 24):
        columns = max(1, min(4, 80 // (longest + 7)))  # that fit in a row
        legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize="small")
        if grow:
            figure = ax.get_figure(root=True)
            assert figure is not None
            figure.set_figheight(figure.get_figheight() + ROW * -(-len(names) // columns))
    else:
        legend(ax)


def name(ax: Axes, x: str, y: str) -> None:
    """Label the axes, in lines that are not longer than the axes of a figure of ours."""
    ax.set_xlabel(wrap(x, 56), **PLAIN)
    ax.set_ylabel(wrap(y, 44), **PLAIN)


def show_space(ax: Any, z: str, places: np.ndarray) -> None:
    """Label the third axis, and look from where places [N, 3] are least in front of each other."""
    ax.set_zlabel(z, **PLAIN)
    limits = ax.get_xlim(), ax.get_ylim(), ax.get_zlim()
    ax.set_box_aspect([high - low for low, high in limits], zoom=0.92)  # room for the labels
    up = np.radians(VIEW)

    def crowding(turn: int) -> float:
        angle = np.radians(turn)
        ahead = places[:, 0] * np.cos(angle) + places[:, 1] * np.sin(angle)
        aside = places[:, 1] * np.cos(angle) - places[:, 0] * np.sin(angle)
        seen = np.stack([aside, places[:, 2] * np.cos(up) - ahead * np.sin(up)], axis=-1)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        return float(-np.sum(np.log(apart + 1e-3 * np.max(apart) + 1e-12)))

    if len(places) > 1:
        ax.view_init(elev=VIEW, azim=min(range(-180, 180, 5), key=crowding))


def wrap(text: str, width: int) -> str:
    """Break a text that is longer into lines; one with a formula stays as it is."""
    return text if len(text) <= width or "$" in text else textwrap.fill(text, width)


def legend(ax: Axes, **how: Any) -> None:
    """Draw a legend, where a curve has a name."""
    shown = ax.legend(**{"frameon": False, **how}) if ax.get_legend_handles_labels()[1] else None
    for text in shown.get_texts() if shown else ():
        text.set(**PLAIN)
        text.set_text(wrap(text.get_text(), 64))
