"""The picture of a sweep: learning curves of the best, a slice for each field, a surface of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from experiments import lab
from experiments.sweep.ranking import Ranked, logarithmic, varied
from seqcells import sweep

BEST = 5  # configurations of which curves are drawn
DECADES = 6  # above the least value that an axis shows; what is beyond counts as diverged


@lab.styled
def draw(result: sweep.Result, ranked: Sequence[Ranked], path: Path) -> None:
    """Draw curves of the best, a slice for each field and a surface over the two widest."""
    frame: lab.Frame = result.to_pandas()
    names = varied(result)
    frame = frame[frame["status"] != "unfinished"]
    wide = sorted((n for n in names if _numeric(frame[n])), key=lambda n: -frame[n].nunique())
    pair = [n for n in wide if frame[n].nunique() > 2][:2]
    shown = _with_curves(result, ranked)[:BEST]
    count = 1 + len(names) + (len(pair) == 2)
    figure, panels = lab.grid_of_panels(count, above=0.4 + 0.25 * len(shown))
    handles = _curves(panels[0], result, shown)
    for axes, name in zip(panels[1:], names, strict=False):
        handles |= _slice(axes, frame, name, result)
    if len(pair) == 2:
        _surface(panels[-1], frame, pair, result, ranked[0])
    lab.add_legend(figure, handles)
    lab.save(figure, path)


def _numeric(column: lab.Frame) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def _text(value: object) -> str:
    return lab.decimal(value) if isinstance(value, float) else str(value)


def _with_curves(result: sweep.Result, ranked: Sequence[Ranked]) -> list[Ranked]:
    """Return the configurations that have a finite number to draw."""
    return [row for row in ranked if np.isfinite(_lines(result, row)["y"]).any()]


def _lines(result: sweep.Result, row: Ranked) -> lab.Frame:
    """Return the steps and values of all seeds of a configuration."""
    names = [name for name in result.fields if name in row]
    ids = {one["id"] for one in result.rows if all(one[name] == row[name] for name in names)}
    lines = [(h["id"], h["step"], h["metrics"][result.metric]) for h in result.history]
    frame = pd.DataFrame(lines, columns=["id", "step", "y"]).astype({"y": float})
    return frame[frame["id"].isin(list(ids))]


def _curves(axes: Axes, result: sweep.Result, shown: Sequence[Ranked]) -> dict[str, object]:
    """Draw the median over seeds, and a band from the least to the most; return the legend.

    A seed that diverged counts as worst, so the median ends where half of the seeds have ended.
    """
    worst = np.inf if result.mode == "min" else -np.inf
    handles, seen = {}, [np.nan]
    for row, colour in zip(shown, lab.COLOURS, strict=False):
        lines = _lines(result, row)
        over = lines.fillna({"y": worst}).groupby("step")["y"]
        label = ", ".join(_text(row[name]) for name in varied(result)) or "the configuration"
        label += f" ({row['diverged']} diverged)" if row["diverged"] else ""
        low, mid, high = (f().where(np.isfinite) for f in (over.min, over.median, over.max))
        (handles[label],) = axes.plot(mid, color=colour)
        axes.fill_between(low.index, low, high, color=colour, alpha=0.15, lw=0)
        seen += list(lines["y"])
    _metric_axis(axes, seen, result)
    axes.set(title="The best: median, least, most", xlabel="step")
    return handles


def _slice(axes: Axes, frame: lab.Frame, name: str, result: sweep.Result) -> dict[str, object]:
    """Draw every trial by one field, and what is reached at each value at best."""
    known = sorted(set(frame[name]), key=lambda value: (str(type(value)), value))
    numbers = _numeric(frame[name])
    at = frame[name] if numbers else frame[name].map(known.index)
    values = frame[result.metric].where(frame["status"] != "diverged")
    good = values <= _top(values, result)
    handles = {}
    axes.plot(at[good], values[good], "o", color=lab.COLOURS[0], alpha=0.35, ms=5)
    best = values[good].groupby(at[good]).agg(result.mode)
    (handles["the best trial"],) = axes.plot(best, color="k", linewidth=1.2)
    if lost := int((~good).sum()):
        line = {"transform": axes.get_xaxis_transform(), "color": lab.COLOURS[5], "clip_on": False}
        (handles["diverged"],) = axes.plot(at[~good], [1.0] * lost, "x", **line)
    if numbers:
        _number_axis(axes.set_xscale, known)
    else:
        axes.set_xticks(range(len(known)), list(map(str, known)))
        axes.set_xlim(-0.5, len(known) - 0.5)
    _metric_axis(axes, values, result)
    axes.set(title=name.replace("_", " "), xlabel=name.replace("_", " "))
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
    values = frame[result.metric].where(frame["status"] != "diverged", worst).fillna(worst)
    table = frame.assign(value=values).pivot_table("value", y, x, aggfunc="median", dropna=False)
    table = table.where(np.isfinite(table))
    top = _top(table.stack(), result)
    positive = logarithmic(result) and table.max().max() > 20 * table.min().min()
    image = axes.imshow(
        table.clip(upper=top),
        origin="lower",
        aspect="auto",
        cmap="cividis",
        norm="log" if positive else None,
        interpolation="none",
    )
    axes.set_xticks(range(len(table.columns)), [*map(lab.short, table.columns)], rotation=45)
    axes.set_yticks(range(len(table.index)), [*map(lab.short, table.index)])
    where = ", ".join(f"{name} {_text(best[name])}" for name in others)
    axes.set(title=where or f"{x} and {y}", xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(image, ax=axes, location="bottom", label=f"median {result.metric}")


def _top(values: lab.Frame, result: sweep.Result) -> float:
    """Return the largest value that is shown."""
    finite = np.asarray(values, float)[np.isfinite(np.asarray(values, float))]
    if not len(finite) or not logarithmic(result) or result.mode == "max":
        return np.inf
    return float(np.min(finite)) * 10.0**DECADES


def _metric_axis(axes: Axes, values: Sequence[float], result: sweep.Result) -> None:
    finite = np.asarray(values, float)[np.isfinite(np.asarray(values, float))]
    shown = [value for value in finite if value <= _top(finite, result)]
    _number_axis(axes.set_yscale, shown)
    if len(shown) < len(finite):
        axes.set_ylim(top=3 * max(shown))
    axes.set_ylabel(result.metric)


def _number_axis(scale: Callable[[str], None], values: Sequence[float]) -> None:
    """Use a logarithmic scale where values are positive and far apart."""
    if len(values) and min(values) > 0 and max(values) > 20 * min(values):
        scale("log")
