"""The picture: success by lag and by rate, adding, and the gradient before and after training."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.horizon.numbers import WHEN, Numbers
from experiments.lab import COLOURS, MARKERS, STYLE, decimal, short, wilson
from seqcells import probes

TIMES = "\N{MULTIPLICATION SIGN}"
DEEPEST = 20  # decades that a gradient is shown over, at most, to each side of 1


def draw(numbers: Numbers, path: Path) -> None:
    """Draw the five panels to a file."""
    figure(numbers).savefig(path)


@matplotlib.rc_context(STYLE)
def figure(numbers: Numbers) -> Figure:
    """Draw the five panels: by lag, by rate, adding; the gradient at initialisation and after."""
    engine = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06)
    made = Figure(figsize=(11.5, 8.6), dpi=140, layout=engine)
    rows = made.add_gridspec(2, 1, height_ratios=(1.12, 1))
    upper, lower = made.add_subfigure(rows[0]), made.add_subfigure(rows[1])
    reach, rates, adding = upper.subplots(1, 3)
    before, after = lower.subplots(1, 2)
    _draw_lags(reach, numbers)
    _draw_rates(rates, numbers)
    _draw_adding(adding, numbers)
    _draw_gradient(before, numbers, WHEN[0], "Gradient by lag, at initialisation")
    _draw_gradient(after, numbers, WHEN[1], "Gradient by lag, after training")
    before.set_ylabel(r"$\|dL/dh\|$, relative to lag 0")
    _draw_legend(upper, numbers)
    note = (
        f"Bars: 95 % Wilson intervals. {TIMES}1: the learning rate that the legend gives each cell."
    )
    lower.supxlabel(note, fontsize=10.5, color="#555555")
    return made


def _draw_legend(panels: SubFigure, numbers: Numbers) -> None:
    """Say who is who, and at which learning rate, above the panels."""
    ran = [(i, who) for i, who in enumerate(numbers.who) if who in numbers.ran("recall")]
    marks = [
        Line2D([], [], color=COLOURS[i], marker=MARKERS[i], markersize=8, linestyle="none")
        for i, _ in ran
    ]
    named = [f"{who}\n{_rates_of(numbers, who)}" for _, who in ran]
    panels.legend(marks, named, loc="outside upper center", ncols=4, frameon=False)


def _rates_of(numbers: Numbers, who: str) -> str:
    """Name a contender's learning rate, and that for adding where it is another."""
    recall, text = numbers.rate("recall", who), f"rate {decimal(numbers.rate('recall', who))}"
    if who in numbers.ran("adding") and numbers.rate("adding", who) != recall:
        text += f", adding {decimal(numbers.rate('adding', who))}"
    return text


def _draw_lags(axes: Axes, numbers: Numbers) -> None:
    for i, who in enumerate(numbers.who):
        counts = {
            x: numbers.solved("recall", who, lag=lag)
            for x, lag in enumerate(numbers.lags)
            if numbers.of("recall", who, lag=lag)
        }
        _draw_shares(axes, i, who, counts)
    axes.set_xticks(range(len(numbers.lags)), [str(lag) for lag in numbers.lags])
    axes.set(title="Delayed recall, by lag", xlabel="lag, steps")
    axes.set_ylabel("share of seeds that solve it")


def _draw_rates(axes: Axes, numbers: Numbers) -> None:
    ran = {who: numbers.by_factor(who) for who in numbers.ran("recall")}
    factors = sorted({factor for counts in ran.values() for factor in counts})
    for i, who in enumerate(numbers.who):
        counts = ran.get(who, {})
        _draw_shares(axes, i, who, {factors.index(f): count for f, count in counts.items()})

    def seeds(factor: float) -> str:
        tried = sorted({counts[factor][1] for counts in ran.values() if factor in counts})
        return f"{_times(factor)}\n{' or '.join(map(str, tried))} seeds"

    axes.set_xticks(range(len(factors)), [seeds(factor) for factor in factors])
    axes.set(title=f"Recall at lag {numbers.longest}, by rate", xlabel="times the cell's own rate")


def _times(factor: float) -> str:
    """Write a factor as people say it: times 3, times 1/3."""
    whole = round(1 / factor)
    simple = factor < 1 and math.isclose(whole * factor, 1, rel_tol=1e-4)
    return f"{TIMES}1/{whole}" if simple else f"{TIMES}{short(factor)}"


def _draw_shares(axes: Axes, i: int, who: str, counts: dict[int, tuple[int, int]]) -> None:
    """Draw shares k of n with their Wilson intervals, contender i a little beside the others."""
    axes.set_ylim(-0.06, 1.06)
    if not counts:
        return
    place = np.array(list(counts)) + 0.14 * (i - 1.5)
    share = np.array([k / n for k, n in counts.values()])
    low, high = np.array([wilson(k, n) for k, n in counts.values()]).T
    errors = np.maximum([share - low, high - share], 0)
    axes.plot(place, share, color=to_rgba(COLOURS[i], 0.4), linewidth=1.2)
    bars = {"ecolor": to_rgba(COLOURS[i], 0.35), "elinewidth": 1.5}
    style = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 8, "linestyle": "none"}
    axes.errorbar(place, share, errors, label=who, **style, **bars)


def _draw_adding(axes: Axes, numbers: Numbers) -> None:
    names = numbers.ran("adding")
    for x, who in enumerate(names):
        loss = [row["loss"] for row in numbers.of("adding", who)]
        spread = np.linspace(-0.2, 0.2, len(loss)) if len(loss) > 1 else np.zeros(len(loss))
        i = numbers.who.index(who)
        axes.scatter(x + spread, loss, 45, color=COLOURS[i], marker=MARKERS[i], label=who)
    probe = probes.AddingURNN()
    for height, text in ((probe.baseline, "guessing"), (probe.success.bound, "solved below")):
        axes.axhline(height, color="#777777", linewidth=0.8, linestyle="--")
        right = {"ha": "right", "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(1, height * 1.05, text, fontsize=10.5, **right)
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    axes.set_xticks(range(len(names)), [who.replace(" ", "\n") for who in names], fontsize=10.5)
    axes.set(title=f"Adding over {numbers.longest} steps", yscale="log")
    axes.set_ylabel("squared error, a mark a seed")
    axes.set_ylim(top=max(axes.get_ylim()[1], 2 * probe.baseline))


def _draw_gradient(axes: Axes, numbers: Numbers, when: str, title: str) -> None:
    """Draw the gradient by lag, dashed after training that most seeds learned nothing from."""
    axes.axhline(1, color="#999999", linewidth=0.8)
    ends: dict[str, float] = {}
    failed: list[str] = []
    for who in numbers.traced():
        norms = numbers.gradient(who, when)
        shown = np.where(norms > 0, norms, math.nan)
        dashed = when == WHEN[1] and not numbers.most("recall", who, lag=numbers.longest)
        failed += [who] * dashed
        style = {"color": COLOURS[numbers.who.index(who)], "linestyle": "--" if dashed else "-"}
        axes.semilogy(np.arange(len(norms)), shown, linewidth=2, label=who, **style)
        if np.isfinite(shown[-1]):
            ends[who] = math.log10(shown[-1])
    if failed:
        told = f"dashed: most seeds did not\nlearn to recall at lag {numbers.longest}"
        axes.text(0.03, 0.05, told, fontsize=10.5, color="#555555", transform=axes.transAxes)
    axes.set(title=title, xlabel="lag, steps", xlim=(0, numbers.longest))
    _set_decades(axes, *_decades(numbers))
    _name_ends(axes, numbers, ends)


def _decades(numbers: Numbers) -> tuple[int, int]:
    """The powers of ten that hold all gradients, and 1."""
    curves = [numbers.gradient(who, when) for who in numbers.traced() for when in WHEN]
    norms = np.concatenate([[1.0], *curves])
    logs = np.log10(norms[np.isfinite(norms) & (norms > 0)])
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return max(low, -DEEPEST), min(max(high, 1), DEEPEST)


def _set_decades(axes: Axes, low: int, high: int) -> None:
    """Show these decades, with ticks that stand on 1."""
    step = max(1, math.ceil((high - low) / 7))
    ticks = [10.0**power for power in range(low, high + 1) if power % step == 0]
    axes.set_yscale("log")
    axes.set_ylim(10.0 ** (low - 0.3), 10.0 ** (high + 0.3))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())


def _name_ends(axes: Axes, numbers: Numbers, ends: dict[str, float]) -> None:
    """Name each curve at its end, the names far enough apart to be read."""
    low, high = np.log10(axes.get_ylim())
    gap, last = 0.065 * (high - low), -math.inf
    for who in sorted(ends, key=lambda who: ends[who]):
        last = max(ends[who], last + gap, low)
        dark = tuple(0.75 * part for part in to_rgb(COLOURS[numbers.who.index(who)]))
        place = {"va": "center", "transform": axes.get_yaxis_transform(), "fontsize": 11}
        axes.text(1.015, 10.0 ** min(last, high), who, color=dark, fontweight="bold", **place)
