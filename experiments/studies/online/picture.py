"""The picture: cosines by lag, and how many seeds learn each task by each rule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import lab
from experiments.studies.online.cosines import BY_LAG, COMPARED, WHEN
from experiments.studies.online.verdicts import Found


@lab.styled
def draw(found: Found, path: Path) -> None:
    """Draw cosines by lag, of two cells before and after training, and the seeds that solve."""
    figure = Figure(figsize=(7.4, 11.5), dpi=140, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2, 1.1))
    above, below = parts
    rows = lab.pick(found.cosines, task="cues")
    handles: dict[str, Any] = {}
    for line, name in zip(above.subplots(2, 3, sharex=True, sharey=True), COMPARED, strict=True):
        for axes, when in zip(line, WHEN, strict=True):
            _draw_cosines(axes, lab.pick(rows, cell=name, when=when), handles)
            lab.set_title(axes, f"{name}, {when}")
    above.supylabel("cosine to the true gradient, of the task of cues", fontsize=12)
    above.supxlabel("steps from the use of the parameters to the answer", fontsize=12)
    lab.add_legend(above, handles)
    _draw_solved(below.subplots(), found.results)
    note = "Lines: medians over seeds; bands: all seeds. RFLO's feedback is random, and these nets "
    lab.add_note(below, f"{note}were trained by backprop.")
    lab.save(figure, path)


def _draw_cosines(axes: Any, rows: lab.Frame, handles: dict[str, Any]) -> None:
    for rule, some in rows.dropna(subset=["lag"]).groupby("rule", sort=False):
        own = {k: v for k, v in lab.look(BY_LAG.index(rule)).items() if k != "marker"}
        parts = some.groupby("lag")["cosine"]
        (line,) = axes.plot(parts.median().index, parts.median(), lw=1.8, **own)
        axes.fill_between(
            parts.min().index, parts.min(), parts.max(), color=own["color"], alpha=0.15
        )
        handles.setdefault(rule, line)
    axes.axhline(0, color="#999999", lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_solved(axes: Any, rows: lab.Frame) -> None:
    """Draw how many seeds solve each task, a row an arm."""
    tasks, arms = (list(dict.fromkeys(rows[name])) for name in ("task", "arm"))
    counts = {at: lab.count(some) for at, some in rows.groupby(["arm", "task"])}
    found = [[counts.get((arm, task)) for task in tasks] for arm in arms]
    share = np.array([[math.nan if c is None else c.k / c.n for c in row] for row in found])
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(share):
        one, colour = found[i][j], "white" if value <= 0.6 else "black"
        text = "" if one is None else f"{one.k} of {one.n}"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_yticks(range(len(arms)), arms)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Seeds that solve each task")
