"""The picture of a sweep: learning curves of the best, a slice for each field, a surface of two."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable

from experiments import lab
from experiments.sweep.ranking import Ranked, logarithmic, varied
from seqcells import sweep
from seqcells.diagnostics._axes import alone, wrap

BEST = 5  # configurations of which curves are drawn
EMPTY = "no finite value"  # of a panel in which nothing is drawn
COLOUR_MAP = "cividis"
FLAT = 6  # names of values beside one another that lie flat


Panel = Callable[[Axes], Mapping[str, object]]  # draws; returns entries of the legend by name


@lab.styled
def draw(panels: Sequence[Panel], result: sweep.Result, path: Path) -> None:
    """Draw panels into a picture, and say how many trials have diverged."""
    figure, every = lab.grid_of_panels(len(panels))
    handles: dict[str, object] = {}
    for panel, axes in zip(panels, every, strict=True):
        handles |= panel(axes)
    lab.add_legend(figure, handles)
    frame = finished(result)
    if lost := int((~_shown(frame, result)).sum()):
        what = "a loss that is not finite, or beyond a million".replace("loss", result.metric)
        lab.add_note(figure, f"Diverged ({what}): {lost} of {len(frame)} trials, at the edge.")
    lab.save(figure, path)


def finished(result: sweep.Result) -> lab.Frame:
    """Return the rows that have ended."""
    frame: lab.Frame = result.to_pandas()
    return frame[frame["status"] != "unfinished"]


def panels(
    result: sweep.Result, ranked: Sequence[Ranked], drawn: Collection[str] = ()
) -> list[Panel]:
    """Return curves of the best, a slice for each field and a surface over the two widest.

    Args:
        result: the table.
        ranked: its configurations, by `ranking.rank`.
        drawn: fields whose values were drawn from a distribution, so that none is there twice.
    """
    names, frame = varied(result), finished(result)
    wide = sorted((n for n in names if _numeric(frame[n])), key=lambda n: -frame[n].nunique())
    pair = [n for n in wide if frame[n].nunique() > 2][:2]
    curves = _curves_of(result)
    shown = list(itertools.islice((row for row in ranked if _drawable(curves(row))), BEST))
    found: list[Panel] = [
        functools.partial(_curves, result=result, shown=shown, every=[*map(curves, shown)]),
        *slices(frame, names, result, drawn),
    ]
    if len(pair) == 2:
        kind = _scatter if {*pair} & {*drawn} else _surface
        fixed = {n: ranked[0][n] for n in names if n not in (*pair, *drawn)}
        part = _where(frame, fixed, result)
        found.append(functools.partial(kind, frame=part, pair=pair, result=result, fixed=fixed))
    return found


def slices(
    frame: lab.Frame, names: Sequence[str], result: sweep.Result, drawn: Collection[str] = ()
) -> list[Panel]:
    """Return a panel for each of these fields, with every row of a frame, by `finished`."""
    return [
        functools.partial(_slice, frame=frame, name=name, result=result, joined=name not in drawn)
        for name in names
    ]


def _numeric(column: lab.Frame) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def _text(value: object) -> str:
    return lab.decimal(value) if isinstance(value, float) else str(value)


def _drawable(curves: lab.Frame) -> bool:
    """Whether there is a finite number to draw."""
    return bool(np.isfinite(curves["y"]).any())


def _curves_of(result: sweep.Result) -> Callable[[Ranked], lab.Frame]:
    """Return a function that returns the steps and values of all seeds of a configuration."""
    lines = [(h["id"], h["step"], h["metrics"][result.metric]) for h in result.history]
    frame = pd.DataFrame(lines, columns=["id", "step", "y"]).astype({"y": float})

    def of(row: Ranked) -> lab.Frame:
        names = [name for name in result.fields if name in row]
        rows = zip(result.column("id"), *map(result.column, names), strict=True)
        ids = [id for id, *values in rows if values == [row[name] for name in names]]
        return frame[frame["id"].isin(ids)]

    return of


def _curves(
    axes: Axes, *, result: sweep.Result, shown: Sequence[Ranked], every: Sequence[lab.Frame]
) -> dict[str, object]:
    """Draw the median over seeds, and a band from the least to the most; return the legend.

    A seed that diverged counts as worst, so the median ends where half of the seeds have ended.
    """
    worst = np.inf if result.mode == "min" else -np.inf
    values = np.concatenate([[], *(lines["y"] for lines in every)])
    good = lab.shown(values)
    parts = np.split(np.where(good, values, worst), np.cumsum([len(lines) for lines in every]))
    handles, drawn = {}, False
    for i, (row, lines, ys) in enumerate(zip(shown, every, parts, strict=False)):
        over = lines.assign(y=ys).groupby("step")["y"]
        label = ", ".join(_text(row[name]) for name in varied(result)) or "the configuration"
        label += f" ({row['diverged']} diverged)" if row["diverged"] else ""
        low, mid, high = (f().where(np.isfinite) for f in (over.min, over.median, over.max))
        colour, drawn = lab.look(i)["color"], drawn or bool(mid.notna().any())
        (handles[label],) = axes.plot(mid, color=colour, **alone(mid.to_numpy()))
        axes.fill_between(low.index, low, high, color=colour, alpha=0.15, lw=0)
    metric_axis(axes, values[good].tolist() if drawn else [], result, "most seeds diverged")
    axes.set(xlabel="step", **({} if drawn else {"xticks": []}))
    lab.set_title(axes, "The best: median, least, most")
    return handles


def _slice(
    axes: Axes, *, frame: lab.Frame, name: str, result: sweep.Result, joined: bool
) -> dict[str, object]:
    """Draw every trial by one field, and what is reached at each value at best, if `joined`."""
    known = sorted(set(frame[name]), key=lambda value: (str(type(value)), value))
    numbers = _numeric(frame[name])
    at = frame[name] if numbers else frame[name].map(known.index)
    values, good = frame[result.metric], _shown(frame, result)
    handles = {}
    axes.plot(at[good], values[good], "o", color=lab.COLOURS[0], alpha=0.35, ms=5)
    if joined:
        best = values[good].groupby(at[good]).agg(result.mode)
        (handles["the best trial"],) = axes.plot(best, color="k", linewidth=1.2)
    if not good.all():
        edge = {"transform": axes.get_xaxis_transform(), "color": lab.COLOURS[2], "clip_on": False}
        height = [1.0 if result.mode == "min" else 0.0] * int((~good).sum())
        (handles["diverged"],) = axes.plot(at[~good], height, "x", **edge)
    if numbers:
        number_axis(axes.set_xscale, known)
    else:
        few = len(known) <= FLAT
        names = [wrap(str(v), 14) if few else lab.brief(str(v)) for v in known]
        flat = max(map(len, names)) * len(known) < 34
        axes.set_xticks(range(len(known)), names, rotation=0 if flat else 90)
        axes.set_xlim(-0.5, len(known) - 0.5)
    metric_axis(axes, values[good], result)
    axes.set_xlabel(words(axes, name))
    return handles


def _where(frame: lab.Frame, fixed: Mapping[str, object], result: sweep.Result) -> lab.Frame:
    """Return the rows with these values; `value` is their metric, the worst if it has diverged."""
    worst = np.inf if result.mode == "min" else -np.inf
    frame = frame.assign(value=frame[result.metric].where(_shown(frame, result), worst))
    for name, value in fixed.items():
        frame = frame[frame[name] == value]
    return frame


def _surface(
    axes: Axes, *, frame: lab.Frame, pair: list[str], result: sweep.Result, fixed: Ranked
) -> dict[str, object]:
    """Draw the median over seeds by two fields of a grid."""
    x, y = pair
    table = frame.pivot_table("value", y, x, aggfunc="median", dropna=False)
    table = table.where(np.isfinite(table))
    image = axes.imshow(
        table,
        origin="lower",
        aspect="auto",
        cmap=COLOUR_MAP,
        norm=_norm(table.to_numpy(), result),
        interpolation="none",
    )
    axes.set_xticks(range(len(table.columns)), [*map(lab.short, table.columns)], rotation=45)
    axes.set_yticks(range(len(table.index)), [*map(lab.short, table.index)])
    axes.spines[:].set_visible(False)
    _name_surface(axes, image, pair, result, fixed)
    return {}


def _scatter(
    axes: Axes, *, frame: lab.Frame, pair: list[str], result: sweep.Result, fixed: Ranked
) -> dict[str, object]:
    """Draw the median over seeds by two fields, one of which was drawn; the best lie on top."""
    median = frame.groupby(pair)["value"].median()
    median = median[np.isfinite(median)].sort_values(ascending=result.mode == "max")
    x, y = (median.index.get_level_values(name).to_numpy() for name in pair)
    image = axes.scatter(x, y, c=median, s=36, cmap=COLOUR_MAP, norm=_norm(median.array, result))
    number_axis(axes.set_xscale, x)
    number_axis(axes.set_yscale, y)
    _name_surface(axes, image, pair, result, fixed)
    return {}


def _norm(values: np.ndarray, result: sweep.Result) -> str | None:
    """Return "log" if the colours of these values should be those of their logarithms."""
    values = values[np.isfinite(values)]
    wide = len(values) and values.min() > 0 and values.max() > 20 * values.min()
    return "log" if wide and logarithmic(result) else None


def _name_surface(
    axes: Axes, image: ScalarMappable, pair: Sequence[str], result: sweep.Result, fixed: Ranked
) -> None:
    """Name axes and colours, and say if there are none."""
    where = ", ".join(f"{name} {_text(value)}" for name, value in fixed.items())
    lab.set_title(axes, where or " and ".join(pair))
    axes.set(xlabel=words(axes, pair[0]), ylabel=words(axes, pair[1]))
    label = words(axes, f"median {result.metric}")
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", label=label)
    if not np.isfinite(np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)).any():
        bar.ax.set_visible(False)
        say_empty(axes)


def _shown(frame: lab.Frame, result: sweep.Result) -> lab.Frame:
    """Whether each trial is drawn at its value: it has not diverged."""
    values = frame[result.metric].where(frame["status"] != "diverged")
    return pd.Series(lab.shown(values), frame.index)


def metric_axis(
    axes: Axes, values: Sequence[float], result: sweep.Result, empty: str = EMPTY
) -> None:
    """Scale and name the axis of the metric, for what it shows, or say why that is nothing."""
    number_axis(axes.set_yscale, values)
    axes.set_ylabel(words(axes, result.metric))
    if not len(values):
        axes.set_yticks([])
        say_empty(axes, empty)


def say_empty(axes: Axes, text: str = EMPTY) -> None:
    """Say in the middle of a panel why nothing is drawn."""
    place = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, color="#555555", **place)


def words(axes: Axes, name: str) -> str:
    """Write a name as words, in lines that fit beside or below a panel."""
    return wrap(name.replace("_", " "), lab.room(axes, 8))


def number_axis(scale: Callable[[str], None], values: Sequence[float]) -> None:
    """Use a logarithmic scale where values are positive and far apart."""
    if len(values) and min(values) > 0 and max(values) > 20 * min(values):
        scale("log")
