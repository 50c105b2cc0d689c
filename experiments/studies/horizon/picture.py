"""The picture: success by lag and by rate, adding, and the gradient before and after training."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from experiments import lab
from experiments.lab import AT_END, AT_START
from experiments.studies.horizon.numbers import ADDING, RECALL, Numbers
from seqcells import probes
from seqcells.diagnostics._axes import reach_of_growth, wrap

TIMES = "\N{MULTIPLICATION SIGN}"
WORST = 100  # times the loss of guessing that an axis shows; beyond it a net has diverged
DEEPEST = 20  # decades that a gradient is shown over, at most, to each side of 1
CROWD, LONG = 5, 28  # arms beside one another whose names lie flat, and letters of such a name
FAINT = {"fade": 0.4, "linewidth": 1.2, "elinewidth": 1.5, "capsize": 0, "markersize": 8}
SMALL, QUIET = 10.5, "#555555"  # of notes


@lab.styled
def figure(n: Numbers) -> Figure:
    """Draw the five panels: by lag, by rate, adding; the gradient at initialisation and after."""
    engine = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06)
    whole = Figure(figsize=(11.5, 8.6), dpi=140, layout=engine)
    rows = whole.add_gridspec(2, 1, height_ratios=(1.12, 1))
    upper, lower = whole.add_subfigure(rows[0]), whole.add_subfigure(rows[1])
    by_lag, by_rate, adding = upper.subplots(1, 3)
    before, after = lower.subplots(1, 2)
    _draw_lags(by_lag, n)
    _draw_rates(by_rate, n)
    _draw_adding(adding, n)
    _draw_gradient(before, n, AT_START, "Gradient by lag, at initialisation")
    _draw_gradient(after, n, AT_END, "Gradient by lag, after training")
    before.set_ylabel(r"$\|dL/dh\|$, relative to lag 0")
    _draw_legend(upper, n)
    one = f"{TIMES}1: the learning rate that the legend gives each cell."
    lab.add_note(lower, f"Bars: 95 % Wilson intervals. {one}")
    return whole


def _draw_legend(panels: SubFigure, n: Numbers) -> None:
    """Name the cells and their learning rates above the panels."""
    handles = {}
    for arm in n.ran(RECALL):
        marks = {**lab.look(n.arms.index(arm)), "linestyle": "none", "markersize": 8}
        handles[f"{arm}\nrate {_rates(n, arm)}"] = Line2D([], [], **marks)
    lab.add_legend(panels, handles)


def _rates(n: Numbers, arm: str) -> str:
    """Write a cell's learning rate, and that of adding if it differs."""
    rates = [n.rate(task, arm) for task in (RECALL, ADDING) if arm in n.ran(task)]
    return ", adding ".join(map(lab.decimal, dict.fromkeys(rates)))


def _draw_lags(axes: Axes, n: Numbers) -> None:
    counts = {arm: {lag: n.count(RECALL, arm, lag=lag) for lag in n.lags} for arm in n.ran(RECALL)}
    lab.draw_counts(axes, counts, n.arms, str, **FAINT)
    axes.set(title="Delayed recall, by lag", xlabel="lag, steps", ylim=(-0.06, 1.06))
    axes.set_ylabel("share of seeds that solve it")


def _draw_rates(axes: Axes, n: Numbers) -> None:
    counts = {
        arm: {float(f"{rate / n.rate(RECALL, arm):.6g}"): c for rate, c in n.by_rate(arm).items()}
        for arm in n.ran(RECALL)
    }

    def name(factor: float) -> str:
        seeds = sorted({found[factor].n for found in counts.values() if factor in found})
        return f"{_times(factor)}\n{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"

    lab.draw_counts(axes, counts, n.arms, name, **FAINT)
    axes.set(title=f"Recall at lag {n.longest}, by rate", xlabel="times the cell's own rate")
    axes.set_ylim(-0.06, 1.06)


def _times(factor: float) -> str:
    """Write a factor as people say it: times 3, times 1/3."""
    whole = round(1 / factor)
    simple = factor < 1 and math.isclose(whole * factor, 1, rel_tol=1e-4)
    return f"{TIMES}1/{whole}" if simple else f"{TIMES}{lab.short(factor)}"


def _draw_adding(axes: Axes, n: Numbers) -> None:
    arms, probe = n.ran(ADDING), probes.AddingURNN()
    many = len(arms) > CROWD
    upright = many or max(map(len, arms), default=0) > LONG
    for x, arm in enumerate(arms):
        loss = lab.pick(n.results, task=ADDING, arm=arm)["loss"]
        spread = np.linspace(-0.2, 0.2, len(loss)) if len(loss) > 1 else np.zeros(len(loss))
        look, shown = lab.look(n.arms.index(arm)), (loss <= WORST * probe.baseline).to_numpy()
        at, colour, top = x + spread, look["color"], axes.get_xaxis_transform()
        axes.scatter(at[shown], loss[shown], 45, color=colour, marker=look["marker"], label=arm)
        if lost := int((~shown).sum()):
            line = {"linestyle": "none", "transform": top, "clip_on": False}
            axes.plot(at[~shown], [1.0] * lost, marker="x", color=colour, **line)
            _note(axes, x, f"{lost} of {len(loss)}{' ' if many else chr(10)}diverged", many)
    for height, text in ((probe.baseline, "guessing"), (probe.success.bound, "solved\nbelow")):
        axes.axhline(height, color="#777777", linewidth=0.8, linestyle="--")
        beside = {"ha": "left", "va": "center", "transform": axes.get_yaxis_transform()}
        axes.text(1.02, height, text, fontsize=SMALL, **beside)
    axes.set_xlim(-0.5, max(len(arms), 1) - 0.5)
    names = [
        lab.brief(arm) if upright else wrap(arm, max(10, 36 // max(len(arms), 1))) for arm in arms
    ]
    axes.set_xticks(range(len(arms)), names, fontsize=SMALL, rotation=90 * upright)
    axes.set(title=f"Adding over {n.longest} steps", yscale="log", xlabel="cell")
    axes.set_ylabel("squared error, a mark a seed")
    axes.set_ylim(top=max(axes.get_ylim()[1], 8 * probe.baseline))


def _note(axes: Axes, x: float, text: str, upright: bool) -> None:
    place = {"ha": "center", "va": "top", "transform": axes.get_xaxis_transform()}
    axes.text(x, 0.97, text, fontsize=SMALL, color=QUIET, rotation=90 * upright, **place)


def _draw_gradient(axes: Axes, n: Numbers, when: str, title: str) -> None:
    """Draw the gradient by lag, dashed after training in which most seeds did not learn."""
    axes.axhline(1, color="#999999", linewidth=0.8)
    failed = [arm for arm in n.traced if when == AT_END and not n.furthest(arm).most]
    curves = {arm: _shown(n, arm, when) for arm in n.traced}
    for arm, norms in curves.items():
        colour, dashes = lab.look(n.arms.index(arm))["color"], "--" if arm in failed else "-"
        line = {"color": colour, "linestyle": dashes, "linewidth": 2, "label": arm}
        axes.semilogy(np.arange(len(norms)), norms, **line)
    dashed = f"dashed: most seeds did not\nlearn to recall at lag {n.longest}"
    gone = [arm for arm, norms in curves.items() if not np.isfinite(norms).any()]
    lines = [dashed] * bool(failed) + [wrap(f"not finite: {', '.join(gone)}", 36)] * bool(gone)
    text = "\n".join(lines) if curves else "not measured"
    axes.text(0.03, 0.05, text, fontsize=SMALL, color=QUIET, transform=axes.transAxes)
    axes.set(title=title, xlabel="lag, steps", xlim=(0, n.longest))
    _set_decades(axes, n)
    _name_ends(axes, n, curves)


def _shown(n: Numbers, arm: str, when: str) -> np.ndarray:
    """Return the norms that the panels show; NaN where one is not, or has diverged."""
    both = [n.gradient(one, time) for one in n.traced for time in (AT_START, AT_END)]
    norms, top = n.gradient(arm, when), reach_of_growth(np.concatenate(both))
    return np.where(np.isfinite(norms) & (norms > 0) & (norms <= top), norms, math.nan)


def _set_decades(axes: Axes, n: Numbers) -> None:
    """Show the powers of ten that hold the gradients of both panels, with ticks that hit 1."""
    curves = [_shown(n, arm, when) for arm in n.traced for when in (AT_START, AT_END)]
    norms = np.concatenate([[1.0], *curves])
    logs = np.log10(norms[np.isfinite(norms)])
    low, high = max(math.floor(min(logs)), -DEEPEST), min(max(math.ceil(max(logs)), 1), DEEPEST)
    step = max(1, math.ceil((high - low) / 7))
    ticks = [10.0**power for power in range(low, high + 1) if power % step == 0]
    axes.set_yscale("log")
    axes.set_ylim(10.0 ** (low - 0.3), 10.0 ** (high + 0.3))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())


def _name_ends(axes: Axes, n: Numbers, curves: dict[str, np.ndarray]) -> None:
    """Name each curve at the height of its end, from the lowest up, apart enough to be read."""
    ends = {arm: norms[np.isfinite(norms)][-1] for arm, norms in curves.items() if any(norms > 0)}
    order = sorted(ends, key=lambda arm: ends[arm])
    texts = {arm: arm + ", stops" * bool(math.isnan(curves[arm][-1])) for arm in order}
    many = len(order) > CROWD
    names = {arm: lab.brief(text, 24) if many else wrap(text, 20) for arm, text in texts.items()}
    low, high = np.log10(axes.get_ylim())
    most = max((name.count("\n") + 1 for name in names.values()), default=1)
    gap = min(0.065 * most, 1 / max(len(order), 1)) * (high - low)
    at = [min(max(math.log10(ends[arm]), low + gap / 2), high) for arm in order]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + gap)
    for i in reversed(range(len(at))):
        at[i] = min(at[i], at[i + 1] - gap if i + 1 < len(at) else high)
    for arm, height in zip(order, at, strict=True):
        dark = tuple(0.75 * part for part in to_rgb(lab.look(n.arms.index(arm))["color"]))
        place = {"va": "center", "transform": axes.get_yaxis_transform(), "fontsize": 11}
        axes.text(1.015, 10.0**height, names[arm], color=dark, fontweight="bold", **place)
