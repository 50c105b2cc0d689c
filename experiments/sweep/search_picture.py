"""Panels of a search: the best so far, importances, and proposals as parallel coordinates."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import lab
from experiments.sweep.picture import Panel, metric_axis, say_empty
from seqcells import _check, sweep
from seqcells.diagnostics._axes import wrap

FEW = 10  # proposals from which on importances are shown
GOOD = 0.1  # the share of proposals that count as good
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}  # behind a text
MINUTES = 300  # seconds from which on the clock shows minutes

TERMS = {
    "proposal": "a configuration that the sampler has proposed; its value is the mean over its "
    "seeds, and it is drawn if all of them were trained to the end",
    "the best so far": "of the values that the sampler has been told, by proposals and by the time "
    "since the first one, with pauses",
    "importance": "the share of a hyperparameter in being among the best tenth (PED-ANOVA, "
    "Watanabe et al. 2023, by Optuna)",
}


def panels(study: Any, result: sweep.Result) -> list[Panel]:
    """Return the panels of a study, which has been told the metric of `result`."""
    told = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if not told:
        return []
    begun = min(trial.datetime_start for trial in study.get_trials(deepcopy=False))
    seconds = np.asarray([(t.datetime_complete - begun).total_seconds() for t in told])
    unit = (60, "minutes") if seconds.max() > MINUTES else (1, "seconds")
    numbers = [trial.number + 1 for trial in told]
    values = np.asarray([trial.value for trial in told])
    given = {"values": values, "result": result}
    return [
        functools.partial(_best_so_far, at=numbers, label="proposals", **given),
        functools.partial(_best_so_far, at=seconds / unit[0], label=unit[1], **given),
        functools.partial(_importances, study=study, count=len(told)),
        functools.partial(_parallel, told=told, **given),
    ]


def _best_so_far(
    axes: Axes, *, at: Sequence[float], label: str, values: np.ndarray, result: sweep.Result
) -> dict[str, object]:
    """Draw every value that was told, and the best of those before it."""
    best = (np.minimum if result.mode == "min" else np.maximum).accumulate(values)
    axes.plot(at, values, "o", color=lab.COLOURS[0], alpha=0.35, ms=5)
    (line,) = axes.plot(at, best, color="k", linewidth=1.2, drawstyle="steps-post")
    metric_axis(axes, values[lab.shown(values)].tolist(), result)
    axes.set(xlabel=label, xlim=(0, None))
    lab.set_title(axes, "The best so far")
    return {"the best so far": line}


def _importances(axes: Axes, *, study: Any, count: int) -> dict[str, object]:
    """Draw the importances of the hyperparameters, by Optuna."""
    lab.set_title(axes, "Importance")
    optuna = _check.extra("optuna", "seqcells[search]")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its experimental parts
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # no value differs
        found = {}
    if count < FEW or not any(found.values()):
        axes.set(xticks=[], yticks=[])
        say_empty(axes, "too few proposals")
        return {}
    names = [wrap(name.replace("_", " "), 14) for name in found]
    axes.barh(names[::-1], [*found.values()][::-1], color=lab.COLOURS[0], height=0.5)
    axes.set(xlim=(0, 1), xlabel="share, PED-ANOVA")
    axes.tick_params(axis="y", length=0)
    return {}


def _parallel(
    axes: Axes, *, told: Sequence[Any], values: np.ndarray, result: sweep.Result
) -> dict[str, object]:
    """Draw a line for each proposal, across an axis for each hyperparameter; the best on top."""
    names = [*told[0].distributions]
    heights = np.stack([_heights(axes, i, name, told) for i, name in enumerate(names)])
    order = np.argsort(values if result.mode == "min" else -values, kind="stable")
    good = order[: max(1, round(GOOD * len(order)))]
    rest = np.setdiff1d(order, good)
    places = np.arange(len(names))
    handles: dict[str, object] = {}
    for some, colour, width, label in (
        (rest, "#cccccc", 0.8, "other proposals"),
        (good, lab.COLOURS[1], 1.6, "the best tenth"),
    ):
        for one in some:
            (handles[label],) = axes.plot(places, heights[:, one], color=colour, lw=width)
    axes.set_xticks(places, [wrap(name.replace("_", " "), 12) for name in names])
    axes.set(xlim=(-0.35, len(names) - 0.65), ylim=(-0.04, 1.04), yticks=[])
    axes.spines[:].set_visible(False)
    lab.set_title(axes, "Proposals")
    return handles


def _heights(axes: Axes, place: int, name: str, told: Sequence[Any]) -> np.ndarray:
    """Return where the proposals cross the axis of a hyperparameter, from 0 to 1, and draw it."""
    one, values = told[0].distributions[name], [trial.params[name] for trial in told]
    axes.axvline(place, color="#555555", linewidth=0.8)
    if hasattr(one, "choices"):
        labels, last = one.choices, max(len(one.choices) - 1, 1)
        ticks = [i / last for i in range(len(labels))]
        heights = [ticks[labels.index(value)] for value in values]
    else:
        scale = np.log if one.log else np.asarray
        labels, ticks = [one.low, one.high], [0.0, 1.0]
        heights = np.interp(scale(values), scale(labels), ticks)
    for label, tick in zip(labels, ticks, strict=True):
        text = lab.short(label) if isinstance(label, float) else lab.brief(str(label))
        axes.text(place + 0.04, tick, text, va="center", fontsize=10, bbox=BOX)
    return np.asarray(heights)
