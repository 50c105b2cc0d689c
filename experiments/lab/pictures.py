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
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from experiments.lab.claims import Count, Frame, count, pick
from experiments.lab.files import write_whole
from seqcells.diagnostics._axes import reach, wrap
from seqcells.diagnostics.plot import OKABE_ITO

P = TypeVar("P", bound=float)  # a place along an axis
Q = ParamSpec("Q")
T = TypeVar("T")
WIDTH = 7.4  # inches of a picture: on a phone, its letters are half as high as on paper
BESIDE = 6  # points from one arm's marks to the next, at most
ABOVE = 0.9  # inches that a figure of panels leaves for its legend
QUIET = {"fontsize": 10.5, "color": "#555555"}  # of notes
COLOURS = OKABE_ITO[:7]
MARKERS = ("o", "s", "v", "^", "D", "P", "X")
OVERLAP = "Where two interval bars overlap, these seeds may be too few to tell the two apart."
BY_LENGTH = f"A line that stays near 1 to the right end solves the longest task. {OVERLAP}"
BY_TASK = (
    "A row of full counts is a net that solves every task; a column of small counts is a task that "
    "few nets solve. Each field counts the seeds that solve it."
)
DASHES = ("-", "--", ":", "-.")
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
        frame: pandas rows of runs, with the columns arm, solved, loss, `x` and `panel`.
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
        set_title(axes, name if isinstance(name, str) else f"{panel} {name}")
        axes.set(xlabel=label, ylim=(-0.04, 1.04))
        if axes in all_axes[::2]:  # of the first column
            axes.set_ylabel("share of seeds that solve it")
    lines = {h.get_label(): h for axes in all_axes for h in axes.get_legend_handles_labels()[0]}
    add_legend(figure, lines)
    add_note(figure, f"Bars: 95 % Wilson intervals. {diverged(frame)}")
    save(figure, path)


def look(i: int) -> dict[str, str]:
    """Return the colour, mark and dashes of the i-th arm, which no arm before it has."""
    turn, at = divmod(i, len(COLOURS))
    marker, dashes = MARKERS[(at + turn) % len(MARKERS)], DASHES[turn % len(DASHES)]
    return {"color": COLOURS[at], "marker": marker, "linestyle": dashes}


def diverged(frame: Frame) -> str:
    """Say of each arm how many of its seeds diverged; nothing where none did.

    Args:
        frame: rows of runs, with the columns arm and loss.
    """
    lost = frame.assign(lost=~shown(frame["loss"]))
    counts = {arm: part["lost"] for arm, part in lost.groupby("arm", sort=False)}
    parts = [f"{one.sum()} of {len(one)} ({arm})" for arm, one in counts.items() if one.any()]
    what = "a loss that is not finite, or beyond a million"
    return f"Diverged ({what}): {', '.join(parts)}." if parts else ""


def shown(values: ArrayLike | Sequence[float]) -> np.ndarray:
    """Return which values an axis shows, bool[N]; others have diverged, or would flatten it.

    They are finite, and at most a million, or a million times the least if that is larger.

    Args:
        values: float[N], all that the axis is for.
    """
    sizes = np.abs(np.asarray(values, float))
    return np.isfinite(sizes) & (sizes <= reach(sizes))


def add_note(figure: Figure | SubFigure, text: str) -> None:
    """Add a note below the panels, in lines that are as wide as the figure."""
    figure.supxlabel(wrap(text.strip(), int(figure.bbox.width / figure.figure.dpi * 13)), **QUIET)


def set_title(axes: Axes, text: str) -> None:
    """Set the title of a panel, in lines that are as wide as the panel."""
    axes.set_title(wrap(text, room(axes, 9)))


def room(axes: Axes, letters: float) -> int:
    """Return how many letters stand side by side in a panel, where so many fit into an inch."""
    whole, grid = axes.get_figure(root=True), axes.get_gridspec()
    assert whole is not None
    return int(letters * whole.get_figwidth() / (grid.ncols if grid else 1))


def grid_of_panels(
    count: int, height: float = 4.0, projection: str | None = None
) -> tuple[Figure, list[Any]]:
    """Make a figure of so many panels, two beside one another, which a phone can show.

    Args:
        count: of the panels.
        height: of a panel, inches.
        projection: of the axes; "3d" for pictures in space.
    """
    columns = min(2, count)
    rows = math.ceil(count / columns)
    engine = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06)
    figure = Figure(figsize=(WIDTH, ABOVE + height * rows), dpi=140, layout=engine)
    how = {"projection": projection}
    axes = list(figure.subplots(rows, columns, squeeze=False, subplot_kw=how).flat)
    for one in axes[count:]:
        one.remove()
    return figure, axes[:count]


def add_legend(figure: Figure | SubFigure, handles: Mapping[Any, Any]) -> None:
    """Add a legend above the panels, in as many columns as the figure is wide.

    A figure grows by what the legend takes beyond the space that is left for it.
    """
    names = [wrap(str(name), int(figure.bbox.width / figure.figure.dpi * 8)) for name in handles]
    for columns in (4, 3, 2, 1):
        legend = figure.legend(
            list(handles.values()), names, loc="outside upper center", ncols=columns, frameon=False
        )
        figure.figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            break
        legend.remove()
    whole = figure.get_figure(root=True)
    assert whole is not None
    taken = legend.get_window_extent().height / whole.dpi - ABOVE
    whole.set_figheight(whole.get_figheight() + max(0.0, taken))


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
    beside = _beside(axes, places, len(arms))
    for arm, by_place in counts.items():
        i, drawn = arms.index(arm), {p: c for p, c in by_place.items() if c.n}
        if not drawn:
            continue
        share = np.array([c.k / c.n for c in drawn.values()])
        ends = np.array([c.interval for c in drawn.values()]).T
        own = look(i)
        colour = own["color"]
        marks = {"marker": own["marker"], "markersize": 7, "mfc": colour, "mec": colour}
        lines = {"color": to_rgba(colour, fade), "linewidth": 1.6, "capsize": 3}
        lines["linestyle"] = own["linestyle"] if len(places) > 1 else "none"
        lines["transform"] = axes.transData + ScaledTranslation(
            (i - (len(arms) - 1) / 2) * beside / 72, 0, axes.figure.dpi_scale_trans
        )
        given = {**marks, **lines, **style}
        axes.errorbar(list(drawn), share, np.abs(ends - share), label=arm, **given)
    axes.set_xticks(places, list(map(name, places)))
    axes.xaxis.set_minor_locator(NullLocator())
    margin = _margin(places)
    axes.set_xlim(min(places) / margin, max(places) * margin)


def _margin(places: Sequence[float]) -> float:
    """Return the factor from the last place to the end of a logarithmic axis."""
    return (max(places) / min(places)) ** 0.12 if len(places) > 1 else 2.0


def _beside(axes: Axes, places: Sequence[float], arms: int) -> float:
    """Return the points from one arm's marks to the next; those of two places stay apart."""
    whole = axes.get_figure(root=True)
    assert whole is not None
    points = 72 * whole.get_figwidth() * axes.get_position().width
    if len(places) == 1:
        return min(2 * BESIDE, 0.8 * points / arms)
    steps, margin = np.diff(np.log(places)), math.log(_margin(places))
    part = min(*steps, 2 * margin) / (sum(steps) + 2 * margin)  # of the axis, for one place
    return min(BESIDE, 0.8 * points * float(part) / arms)


@styled
def draw_grid(frame: Frame, path: Path, label: str = "cell") -> None:
    """Draw which share of runs solved each task, a row an arm, a column a task and length.

    Args:
        frame: pandas rows of runs, with the columns arm, task, length, solved and loss.
        path: the file.
        label: what an arm is.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    places = list(dict.fromkeys(zip(frame["task"], frame["length"], strict=True)))
    by_place = {at: part["solved"] for at, part in frame.groupby(["arm", "task", "length"])}
    solved = [[by_place.get((arm, *place)) for place in places] for arm in arms]
    share = np.array([[math.nan if one is None else one.mean() for one in row] for row in solved])
    rows, columns = _names(arms, 24), _names([task for task, _ in places], 12)
    size = (4.0 + 1.25 * len(places), 1.4 + 0.25 * _lines(columns) + 0.5 * max(len(rows), 5))
    figure = Figure(figsize=size, dpi=140, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="share of seeds that solve it")
    for (i, j), value in np.ndenumerate(share):
        one, colour = solved[i][j], "black" if value > 0.6 else "white"
        text = "-" if one is None else f"{int(one.sum())} of {len(one)}"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=11)
    names = [f"{task}\n{at[1]} steps" for task, at in zip(columns, places, strict=True)]
    axes.set_xticks(range(len(places)), names)
    axes.set_yticks(range(len(arms)), rows)
    axes.set(xlabel="task, and its length", ylabel=label)
    if lost := diverged(frame):
        add_note(figure, lost)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save(figure, path)


@styled
def draw_accuracy(frame: Frame, path: Path) -> None:
    """Draw a map for each task: a row an arm, a column a length, coloured by the mean accuracy.

    The colour is 0 for the accuracy of a guess and 1 for that of a net that is always right.

    Args:
        frame: pandas rows of runs, with the columns arm, task, length, solved, accuracy, loss, and
            guess, the accuracy of a guess.
        path: the file.
    """
    tasks, arms = (list(dict.fromkeys(frame[name])) for name in ("task", "arm"))
    rows, titles = _names(arms, 15), _names(tasks, 9)
    height = 2.4 + 0.2 * _lines(titles) + 0.2 * sum(max(2, row.count("\n") + 1) for row in rows)
    figure = Figure(figsize=(WIDTH, height), dpi=140, layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    images = [
        _draw_map(axes, pick(frame, task=task), arms)
        for axes, task in zip(panels, tasks, strict=True)
    ]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=11)
    panels[0].set_yticks(range(len(arms)), rows, fontsize=10)
    panels[0].set_ylabel("cell")
    label = "mean accuracy, from a guess (0) to always right (1)"
    figure.colorbar(images[0], ax=panels, label=label, location="top", shrink=0.6, aspect=30)
    seeds = count(pick(frame, arm=arms[0], task=tasks[0], length=frame["length"].iloc[0])).n
    add_note(figure, f"Numbers: seeds that solve it, of {seeds}. {diverged(frame)}")
    save(figure, path)


def _draw_map(axes: Axes, frame: Frame, arms: Sequence[str]) -> AxesImage:
    """Draw the map of a task; returns what a bar of colours needs."""
    lengths = sorted(set(frame["length"]))
    above = ((frame["accuracy"] - frame["guess"]) / (1 - frame["guess"])).clip(lower=0)
    parts = frame.assign(above=above).groupby(["arm", "length"])
    found = {at: (part["above"].mean(), count(part).k) for at, part in parts}
    nothing = math.nan, ""
    fields = [[found.get((arm, length), nothing) for length in lengths] for arm in arms]
    values = np.array([[value for value, _ in row] for row in fields], float)
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value <= 0.6 else "black"
        style = {"ha": "center", "va": "center", "color": colour, "fontsize": 9}
        axes.text(j, i, str(fields[i][j][1]), **style)
    axes.set_xticks(range(len(lengths)), [f"{length:g}" for length in lengths], fontsize=10)
    axes.set_xlabel("steps")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _names(names: Sequence[str], width: int) -> list[str]:
    return [wrap(str(name), width) for name in names]


def _lines(names: Sequence[str]) -> int:
    return max(name.count("\n") + 1 for name in names)
