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
from experiments.lab import AT_END, AT_START, COLOURS, MARKERS
from experiments.studies.horizon.numbers import ADDING, RECALL, Numbers
from seqcells import probes

TIMES = "\N{MULTIPLICATION SIGN}"
WORST = 100  # times the loss of guessing that an axis shows; beyond it a net has diverged
DEEPEST = 20  # decades that a gradient is shown over, at most, to each side of 1
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
    lower.supxlabel(f"Bars: 95 % Wilson intervals. {one}", fontsize=SMALL, color=QUIET)
    return whole


def _draw_legend(panels: SubFigure, n: Numbers) -> None:
    """Name the cells and their learning rates above the panels."""
    marks = [
        Line2D([], [], color=COLOURS[i], marker=MARKERS[i], markersize=8, linestyle="none")
        for i in map(n.arms.index, n.ran(RECALL))
    ]
    names = [f"{arm}\nrate {_rates(n, arm)}" for arm in n.ran(RECALL)]
    panels.legend(marks, names, loc="outside upper center", ncols=4, frameon=False)


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
        return f"{_times(factor)}\n{' or '.join(map(str, seeds))} seeds"

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
    for x, arm in enumerate(arms):
        loss = lab.pick(n.results, task=ADDING, arm=arm)["loss"]
        spread = np.linspace(-0.2, 0.2, len(loss)) if len(loss) > 1 else np.zeros(len(loss))
        i, shown = n.arms.index(arm), (loss <= WORST * probe.baseline).to_numpy()
        at, colour, top = x + spread, COLOURS[i], axes.get_xaxis_transform()
        axes.scatter(at[shown], loss[shown], 45, color=colour, marker=MARKERS[i], label=arm)
        if lost := int((~shown).sum()):
            line = {"linestyle": "none", "transform": top, "clip_on": False}
            axes.plot(at[~shown], [1.0] * lost, marker="x", color=colour, **line)
            _note(axes, x, f"{lost} of {len(loss)}\ndiverged")
    for height, text in ((probe.baseline, "guessing"), (probe.success.bound, "solved below")):
        axes.axhline(height, color="#777777", linewidth=0.8, linestyle="--")
        right = {"ha": "right", "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(1, height * 1.05, text, fontsize=SMALL, **right)
    axes.set_xlim(-0.5, max(len(arms), 1) - 0.5)
    axes.set_xticks(range(len(arms)), [arm.replace(" ", "\n") for arm in arms], fontsize=SMALL)
    axes.set(title=f"Adding over {n.longest} steps", yscale="log")
    axes.set_ylabel("squared error, a mark a seed")
    axes.set_ylim(top=max(axes.get_ylim()[1], 8 * probe.baseline))


def _note(axes: Axes, x: float, text: str) -> None:
    place = {"ha": "center", "va": "top", "transform": axes.get_xaxis_transform()}
    axes.text(x, 0.97, text, fontsize=SMALL, color=QUIET, **place)


def _draw_gradient(axes: Axes, n: Numbers, when: str, title: str) -> None:
    """Draw the gradient by lag, dashed after training in which most seeds did not learn."""
    axes.axhline(1, color="#999999", linewidth=0.8)
    failed = [arm for arm in n.traced if when == AT_END and not n.furthest(arm).most]
    for arm in n.traced:
        norms = n.gradient(arm, when)
        style = {"color": COLOURS[n.arms.index(arm)], "linestyle": "--" if arm in failed else "-"}
        shown = np.where(norms > 0, norms, math.nan)
        axes.semilogy(np.arange(len(norms)), shown, linewidth=2, label=arm, **style)
    if failed:
        text = f"dashed: most seeds did not\nlearn to recall at lag {n.longest}"
        axes.text(0.03, 0.05, text, fontsize=SMALL, color=QUIET, transform=axes.transAxes)
    axes.set(title=title, xlabel="lag, steps", xlim=(0, n.longest))
    _set_decades(axes, n)
    _name_ends(axes, n, when)


def _set_decades(axes: Axes, n: Numbers) -> None:
    """Show the powers of ten that hold the gradients of both panels, with ticks that hit 1."""
    curves = [n.gradient(arm, when) for arm in n.traced for when in (AT_START, AT_END)]
    norms = np.concatenate([[1.0], *curves])
    logs = np.log10(norms[np.isfinite(norms) & (norms > 0)])
    low, high = max(math.floor(min(logs)), -DEEPEST), min(max(math.ceil(max(logs)), 1), DEEPEST)
    step = max(1, math.ceil((high - low) / 7))
    ticks = [10.0**power for power in range(low, high + 1) if power % step == 0]
    axes.set_yscale("log")
    axes.set_ylim(10.0 ** (low - 0.3), 10.0 ** (high + 0.3))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())


def _name_ends(axes: Axes, n: Numbers, when: str) -> None:
    """Name each curve at its end, from the lowest up, far enough apart to be read."""
    low, high = np.log10(axes.get_ylim())
    gap, last = 0.065 * (high - low), -math.inf
    for arm, left in reversed(n.left(when).items()):
        if not 0 < left < math.inf:
            continue
        last = max(math.log10(left), last + gap, low)
        dark = tuple(0.75 * part for part in to_rgb(COLOURS[n.arms.index(arm)]))
        place = {"va": "center", "transform": axes.get_yaxis_transform(), "fontsize": 11}
        axes.text(1.015, 10.0 ** min(last, high), arm, color=dark, fontweight="bold", **place)
