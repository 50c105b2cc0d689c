"""The picture of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from experiments import lab
from experiments.studies.search.problems import RANDOM, TPE
from experiments.studies.search.verdicts import KEYS, Found, count_text

MOST = 100.0  # times random's best; what is above is cut off


@lab.styled
def draw(found: Found, path: Path) -> None:
    """Draw the best loss so far by trials, relative to the best of the random search."""
    searches, arms = found.searches, (RANDOM, TPE)
    names = list(dict.fromkeys(searches["problem"]))
    figure, panels = lab.grid_of_panels(len(names), 3.4)
    looks: dict[str, Any] = {arm: {"color": lab.COLOURS[i]} for i, arm in enumerate(arms)}
    for axes, name in zip(panels, names, strict=True):
        rows = lab.pick(searches, problem=name)
        for arm, look in looks.items():
            values = best_so_far(found, lab.pick(rows, arm=arm))
            at = np.arange(1, values.shape[1] + 1)
            axes.plot(at, np.median(values, axis=0), lw=1.8, **look)
            axes.fill_between(at, values.min(axis=0), values.max(axis=0), alpha=0.2, lw=0, **look)
        axes.axhline(1, color="#555555", lw=1, ls="--")
        needed = float(np.median(lab.pick(rows, arm=TPE)["needed"]))
        if np.isfinite(needed):
            axes.plot(needed, 1, marker="o", ms=8, zorder=4, clip_on=False, **looks[TPE])
        samples = rows["trials"].max()
        axes.set(xlabel="trials", xlim=(0, samples), xticks=np.linspace(0, samples, 5))
        axes.set(yscale="log", ylim=(None, MOST))
        if axes in panels[::2]:  # of the first column
            axes.set_ylabel("best so far / random's best")
        lab.set_title(axes, f"{name}: TPE needs {count_text(needed, samples)}")
    handles: dict[str, Any] = {arm: Line2D([], [], lw=1.8, **look) for arm, look in looks.items()}
    handles["random's best"] = Line2D([], [], color="#555555", lw=1, ls="--")
    lab.add_legend(figure, handles)
    lab.add_note(
        figure,
        "Lines: medians over the seeds; bands: from the least to the largest, cut off at "
        f"{MOST:g}. Marks: the median of the trials that TPE needs.",
    )
    lab.save(figure, path)


def best_so_far(found: Found, searches: lab.Frame) -> np.ndarray:
    """Return the best loss so far of every search, relative to its goal, float[S, trials]."""
    lines = []
    for row in searches.to_dict("records"):
        points = lab.pick(found.curves, **{name: row[name] for name in KEYS})
        places = np.searchsorted(points["trial"], np.arange(1, row["trials"] + 1), side="right") - 1
        best = np.where(places < 0, np.nan, points["best"].to_numpy()[places])
        lines.append(best / row["goal"])
    return np.array(lines)
