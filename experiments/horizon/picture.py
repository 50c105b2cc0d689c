"""The picture: success by lag, adding, and the gradient by lag before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._report import short, wilson
from experiments.horizon.numbers import Numbers
from seqcells import probes

COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73")  # Okabe and Ito's, safe for colour blindness
MARKERS = ("o", "s", "v", "^")


def draw(numbers: Numbers, path: Path) -> None:
    """Draw the five panels."""
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False}):
        figure = Figure(figsize=(13, 7.5), dpi=130, layout="constrained")
        (reach, rates, adding), (before, after, corner) = figure.subplots(2, 3)
        _draw_lags(reach, numbers)
        _draw_rates(rates, numbers)
        _draw_adding(adding, numbers)
        _draw_gradient(before, numbers, "initialisation", "Gradient by lag, at initialisation")
        _draw_gradient(after, numbers, "after training", "Gradient by lag, after training")
        before.set_ylabel(r"$\|dL/dh\|$, relative to lag 0")
        floor = min(axes.get_ylim()[0] for axes in (before, after))
        top = max(axes.get_ylim()[1] for axes in (before, after))
        for axes in (before, after):
            axes.set_ylim(max(floor, 1e-20), top)
        for axes in figure.axes:
            axes.spines["right"].set_visible(False)
        _draw_legend(corner, numbers, *reach.get_legend_handles_labels())
        figure.savefig(path)


def _draw_lags(axes: Axes, numbers: Numbers) -> None:
    for i, who in enumerate(numbers.who):
        counts = [numbers.solved("recall", who, lag=lag) for lag in numbers.lags]
        _draw_shares(axes, i, who, np.arange(len(counts)) + 0.18 * (i - 1.5), counts)
    axes.set_xticks(range(len(numbers.lags)), [str(lag) for lag in numbers.lags])
    axes.set(title="Delayed recall, by lag", xlabel="lag, steps")
    axes.set_ylabel("share of seeds that solve it")


def _draw_rates(axes: Axes, numbers: Numbers) -> None:
    for i, who in enumerate(numbers.who):
        counts = numbers.by_rate(who)
        place = np.array(list(counts)) * 1.08 ** (i - 1.5)  # side by side where rates are the same
        _draw_shares(axes, i, who, place, list(counts.values()))
    axes.set_xscale("log")
    axes.set(title=f"Recall at lag {max(numbers.lags)}, by learning rate", xlabel="learning rate")


def _draw_shares(
    axes: Axes, i: int, who: str, place: np.ndarray, counts: list[tuple[int, int]]
) -> None:
    """Draw shares k of n with their Wilson intervals."""
    share = np.array([k / n for k, n in counts])
    low, high = np.array([wilson(k, n) for k, n in counts]).T
    errors = np.maximum([share - low, high - share], 0)
    style = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": "none", "capsize": 3}
    axes.errorbar(place, share, errors, label=who, markersize=7, **style)
    axes.set_ylim(-0.05, 1.05)


def _draw_legend(axes: Axes, numbers: Numbers, handles: list[Any], labels: list[str]) -> None:
    """Say who is who in the corner that holds no panel."""
    axes.axis("off")
    named = [f"{who} (learning rate {short(numbers.rate(who))})" for who in labels]
    axes.legend(handles, named, loc="center", frameon=False, fontsize=11, labelspacing=1)
    note = "The rate in brackets is that of the panel by lag.\nIntervals: Wilson, 95 %."
    place = {"ha": "center", "va": "top", "transform": axes.transAxes}
    axes.text(0.5, 0.2, note, fontsize=9, color="#555555", **place)


def _draw_adding(axes: Axes, numbers: Numbers) -> None:
    for i, who in enumerate(numbers.who):
        loss = [row["loss"] for row in numbers.of("adding", who)]
        spread = np.linspace(-0.15, 0.15, len(loss)) if len(loss) > 1 else [0.0] * len(loss)
        axes.scatter(i + np.asarray(spread), loss, color=COLOURS[i], marker=MARKERS[i])
    probe = probes.Adding()
    for height, text in ((probe.baseline, "guessing"), (probe.threshold, "solved below")):
        axes.axhline(height, color="#777777", linewidth=0.8, linestyle="--")
        axes.text(len(numbers.who) - 0.5, height * 1.05, text, ha="right", va="bottom", fontsize=8)
    axes.set_xlim(-0.5, len(numbers.who) - 0.5)
    axes.set_xticks(range(len(numbers.who)), [who.replace(" ", "\n") for who in numbers.who])
    steps = max(numbers.lags)
    axes.set(
        title=f"Adding over {steps} steps, a mark a seed", yscale="log", ylabel="squared error"
    )
    axes.spines["right"].set_visible(False)


def _draw_gradient(axes: Axes, numbers: Numbers, when: str, title: str) -> None:
    for i, who in enumerate(numbers.who):
        norms = numbers.gradient(who, when)
        shown = np.where(norms > 0, norms, np.nan)
        axes.semilogy(np.arange(len(norms)), shown, color=COLOURS[i], label=who)
    axes.set(title=title, xlabel="lag, steps")
