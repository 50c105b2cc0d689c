"""The picture of a sweep: learning curves of the best, a slice for each field, a surface of two."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from experiments import lab
from experiments.sweep.ranking import Ranked, logarithmic, varied
from seqcells import sweep
from seqcells.diagnostics._axes import alone, wrap

BEST = 5  # configurations of which curves are drawn
EMPTY = "no finite value"  # of a panel in which nothing is drawn
FLAT = 6  # names of values beside one another that lie flat


@lab.styled
def draw(result: sweep.Result, ranked: Sequence[Ranked], path: Path) -> None:
    """Draw curves of the best, a slice for each field and a surface over the two widest."""
    frame: lab.Frame = result.to_pandas()
    names = varied(result)
    frame = frame[frame["status"] != "unfinished"]
    wide = sorted((n for n in names if _numeric(frame[n])), key=lambda n: -frame[n].nunique())
    pair = [n for n in wide if frame[n].nunique() > 2][:2]
    curves = _curves_of(result)
    shown = list(itertools.islice((row for row in ranked if _drawable(curves(row))), BEST))
    count = 1 + len(names) + (len(pair) == 2)
    figure, panels = lab.grid_of_panels(count)
    handles = _curves(panels[0], result, shown, [*map(curves, shown)])
    for axes, name in zip(panels[1:], names, strict=False):
        handles |= _slice(axes, frame, name, result)
    if len(pair) == 2:
        _surface(panels[-1], frame, pair, result, ranked[0])
    lab.add_legend(figure, handles)
    if lost := int((~_shown(frame, result)).sum()):
        what = "a loss that is not finite, or beyond a million".replace("loss", result.metric)
        lab.add_note(figure, f"Diverged ({what}): {lost} of {len(frame)} trials, at the edge.")
    lab.save(figure, path)


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
    axes: Axes, result: sweep.Result, shown: Sequence[Ranked], every: Sequence[lab.Frame]
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
    _metric_axis(axes, values[good].tolist() if drawn else [], result, "most seeds diverged")
    axes.set(xlabel="step", **({} if drawn else {"xticks": []}))
    lab.set_title(axes, "The best: median, least, most")
    return handles


def _slice(axes: Axes, frame: lab.Frame, name: str, result: sweep.Result) -> dict[str, object]:
    """Draw every trial by one field, and what is reached at each value at best."""
    known = sorted(set(frame[name]), key=lambda value: (str(type(value)), value))
    numbers = _numeric(frame[name])
    at = frame[name] if numbers else frame[name].map(known.index)
    values, good = frame[result.metric], _shown(frame, result)
    handles = {}
    axes.plot(at[good], values[good], "o", color=lab.COLOURS[0], alpha=0.35, ms=5)
    best = values[good].groupby(at[good]).agg(result.mode)
    (handles["the best trial"],) = axes.plot(best, color="k", linewidth=1.2)
    if not good.all():
        edge = {"transform": axes.get_xaxis_transform(), "color": lab.COLOURS[2], "clip_on": False}
        height = [1.0 if result.mode == "min" else 0.0] * int((~good).sum())
        (handles["diverged"],) = axes.plot(at[~good], height, "x", **edge)
    if numbers:
        _number_axis(axes.set_xscale, known)
    else:
        few = len(known) <= FLAT
        names = [wrap(str(v), 14) if few else lab.brief(str(v)) for v in known]
        flat = max(map(len, names)) * len(known) < 34
        axes.set_xticks(range(len(known)), names, rotation=0 if flat else 90)
        axes.set_xlim(-0.5, len(known) - 0.5)
    _metric_axis(axes, values[good], result)
    axes.set_xlabel(_words(axes, name))
    return handles


def _surface(
    axes: Axes, frame: lab.Frame, pair: list[str], result: sweep.Result, best: Ranked
) -> None:
    """Draw the median over seeds by two fields; the others are those of the best."""
    x, y = pair
    others = [name for name in varied(result) if name not in pair]
    for name in others:
        frame = frame[frame[name] == best[name]]
    worst = np.inf if result.mode == "min" else -np.inf
    values = frame[result.metric].where(_shown(frame, result), worst)
    table = frame.assign(value=values).pivot_table("value", y, x, aggfunc="median", dropna=False)
    table = table.where(np.isfinite(table))
    positive = logarithmic(result) and table.max().max() > 20 * table.min().min()
    image = axes.imshow(
        table,
        origin="lower",
        aspect="auto",
        cmap="cividis",
        norm="log" if positive else None,
        interpolation="none",
    )
    axes.set_xticks(range(len(table.columns)), [*map(lab.short, table.columns)], rotation=45)
    axes.set_yticks(range(len(table.index)), [*map(lab.short, table.index)])
    where = ", ".join(f"{name} {_text(best[name])}" for name in others)
    lab.set_title(axes, where or f"{x} and {y}")
    axes.set(xlabel=_words(axes, x), ylabel=_words(axes, y))
    axes.spines[:].set_visible(False)
    label = _words(axes, f"median {result.metric}")
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", label=label)
    if not table.notna().any(axis=None):
        bar.ax.set_visible(False)
        _say_empty(axes)


def _shown(frame: lab.Frame, result: sweep.Result) -> lab.Frame:
    """Whether each trial is drawn at its value: it has not diverged."""
    values = frame[result.metric].where(frame["status"] != "diverged")
    return pd.Series(lab.shown(values), frame.index)


def _metric_axis(
    axes: Axes, values: Sequence[float], result: sweep.Result, empty: str = EMPTY
) -> None:
    """Scale and name the axis of the metric, for what it shows, or say why that is nothing."""
    _number_axis(axes.set_yscale, values)
    axes.set_ylabel(_words(axes, result.metric))
    if not len(values):
        axes.set_yticks([])
        _say_empty(axes, empty)


def _say_empty(axes: Axes, text: str = EMPTY) -> None:
    place = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, color="#555555", **place)


def _words(axes: Axes, name: str) -> str:
    """Write a name as words, in lines that fit beside or below a panel."""
    return wrap(name.replace("_", " "), lab.room(axes, 8))


def _number_axis(scale: Callable[[str], None], values: Sequence[float]) -> None:
    """Use a logarithmic scale where values are positive and far apart."""
    if len(values) and min(values) > 0 and max(values) > 20 * min(values):
        scale("log")
