"""The report of a population: lineages, as sentences, a table and panels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import lab
from experiments.sweep.picture import Panel, finished, metric_axis, number_axis, slices, words
from experiments.sweep.ranking import varied
from seqcells import sweep
from seqcells._types import Json as Row

SHOWN = 20  # rows of the table
TERMS = {
    "trial": "one training, whose hyperparameters change where it becomes a copy of a better trial",
    "lineage": "the segments of training that led to the last state of a trial: its own, and those "
    "of the other trial before it became a copy",
    "diverged": "trials whose last loss was not finite",
}


def headline(result: sweep.Result, moved: Sequence[str]) -> str:
    """Return the best trial and its schedule, in words.

    Args:
        result: the table and the history of the population.
        moved: the fields that it perturbs.
    """
    row = best(result)[0]
    if not math.isfinite(row[result.metric]):
        return f"No trial has a finite {result.metric}."
    lineage = result.lineage(row["id"])
    ways = [f"{n} went {_way(lineage, n)}" for n in moved]
    others = "".join(f", {name} {row[name]}" for name in varied(result) if name not in moved)
    return (
        f"Best: a {result.metric} of {lab.short(row[result.metric])}{others}; {lab.words(ways)} on "
        "the way. The best of many trials is best by chance, too: train others by its schedule."
    )


def table(result: sweep.Result, moved: Sequence[str]) -> lab.Table:
    """Return the table of the best trials."""
    others = [name for name in varied(result) if name not in moved]
    rows = best(result)[:SHOWN]
    lineages = [result.lineage(row["id"]) for row in rows]
    return lab.Table(
        title="The best trials",
        caption=f"{len(rows)} of {len(result.rows)}, the best first: hyperparameters at the "
        f"beginning and at the end of their lineage, {result.metric}, and how often the lineage "
        "goes on in a copy.",
        head=[*others, *moved, result.metric, "copies", "steps"],
        rows=[
            [
                *(str(row[name]) for name in others),
                *(_way(lineage, name) for name in moved),
                lab.short(row[result.metric]),
                f"{len(_copied(lineage))}",
                f"{row['steps']:.0f}",
            ]
            for row, lineage in zip(rows, lineages, strict=True)
        ],
        texts=sum(isinstance(rows[0][name], str) for name in others),
    )


def _way(lineage: Sequence[Row], name: str) -> str:
    first, last = (lab.short(line["metrics"][name]) for line in (lineage[0], lineage[-1]))
    return f"from {first} to {last}"


def _copied(lineage: Sequence[Row]) -> list[int]:
    """Return the places in a lineage from which on it is that of a copy."""
    ids = [line["id"] for line in lineage]
    return [i for i in range(1, len(ids)) if ids[i] != ids[i - 1]]


def panels(result: sweep.Result, moved: Sequence[str]) -> list[Panel]:
    """Return a panel for the metric, for each field that is perturbed, and for each other one."""
    lines, lineage = result.history, result.lineage(best(result)[0]["id"])
    return [
        functools.partial(_paths, name=name, lines=lines, lineage=lineage, result=result)
        for name in (result.metric, *moved)
    ] + slices(finished(result), [n for n in varied(result) if n not in moved], result)


def best(result: sweep.Result) -> list[Row]:
    """Return the rows, the best first, and those without a finite metric last."""
    sign = 1 if result.mode == "min" else -1

    def order(row: Row) -> tuple[bool, float]:
        finite = math.isfinite(row[result.metric])
        return not finite, sign * row[result.metric] if finite else 0.0

    return sorted(result.rows, key=order)


def _paths(
    axes: Axes, *, name: str, lines: Sequence[Row], lineage: Sequence[Row], result: sweep.Result
) -> dict[str, object]:
    """Draw a number of every trial by step, and that of the lineage; marks where it is a copy."""
    paths: dict[str, list[Row]] = {}
    for line in lines:
        paths.setdefault(line["id"], []).append(line)
    every = np.asarray([line["metrics"][name] for line in lines], float)
    most = np.abs(every[lab.shown(every)]).max(initial=0)
    how: Any = {"drawstyle": "default" if name == result.metric else "steps-pre"}
    handles: dict[str, object] = {}
    for path in paths.values():
        points = _points(path, name, most)
        (handles["a trial"],) = axes.plot(*points, color="#bbbbbb", lw=0.9, **how)
    points = _points(lineage, name, most)
    (handles["the lineage of the best"],) = axes.plot(*points, color="k", lw=1.8, **how)
    copied = [i - 1 for i in _copied(lineage)]  # where the trials parted
    if copied:
        at = [[column[i] for i in copied] for column in points]
        (handles["goes on in a copy"],) = axes.plot(*at, "o", color=lab.COLOURS[1], ms=6)
    shown = every[np.abs(every) <= most].tolist()
    if name == result.metric:
        metric_axis(axes, shown, result)
    else:
        number_axis(axes.set_yscale, shown)
        axes.set_ylabel(words(axes, name))
    axes.set_xlabel("step")
    return handles


def _points(path: Sequence[Row], name: str, most: float) -> tuple[list[int], list[float]]:
    """Return the steps of a path, and its values of at most this size; others leave a gap."""
    values = [line["metrics"][name] for line in path]
    return [line["step"] for line in path], [v if abs(v) <= most else math.nan for v in values]
