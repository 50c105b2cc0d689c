"""The picture of the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments import lab
from experiments.studies.newton.measures import MOST, TAME
from experiments.studies.newton.verdicts import Found


@lab.styled
def draw(found: Found, path: Path) -> None:
    """Draw iterations by exponent, by steps and by updates, and the times."""
    figure, panels = lab.grid_of_panels(4, 3.6)
    arms = [*dict.fromkeys([*found.results["arm"], *found.training["arm"]])]
    looks = {arm: lab.look(i) for i, arm in enumerate(arms)}
    longest = found.times["length"].max() if len(found.times) else 0
    for arm, own in looks.items():
        rows = lab.pick(found.results, arm=arm)
        for good, some in rows[lab.shown(rows["exponent"])].groupby("converged"):
            fill = own["color"] if good else "none"
            marks = {"color": own["color"], "marker": own["marker"], "markerfacecolor": fill}
            panels[0].plot(some["exponent"], some["iterations"], ls="none", ms=4, **marks)
        tame = lab.pick(rows, gain=TAME)
        _lines(panels[1], tame, "length", {"iterations": "-", "diagonal": ":"}, own)
        training = lab.pick(found.training, arm=arm)
        training = training[training["update"] > 0]
        _lines(panels[2], training, "update", {"cold": "-", "warm": "--"}, own)
        times = lab.pick(found.times, arm=arm, length=longest)
        _lines(panels[3], times, "gain", {"newton": "-", "exponent": "--", "scan": ":"}, own)
    panels[0].axvline(0, color="#999999", lw=0.8)
    titles = {
        "Filled: converged": {"xlabel": "Lyapunov exponent (nats a step)"},
        f"Gain {TAME}; dotted: diagonal": {"xlabel": "steps", "xscale": "log"},
        "Training; dashed: warm": {"xlabel": "updates", "xscale": "log"},
        "Dashed: exponent; dotted: scan": {"xlabel": "gain", "ylabel": f"ms, {longest:,} steps"},
    }
    for axes, (title, named) in zip(panels, titles.items(), strict=True):
        axes.set(**{"yscale": "log", "ylabel": "iterations", **named})
        lab.set_title(axes, title)
    for axes in panels[:3]:
        axes.set_ylim(0.9, 1.2 * MOST)
        axes.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"], minor=False)
        axes.yaxis.set_minor_locator(NullLocator())
    lab.add_legend(
        figure, {arm: Line2D([], [], ls="-", **_mark(own)) for arm, own in looks.items()}
    )
    lab.add_note(figure, "Marks: nets; lines: medians over the seeds.")
    lab.save(figure, path)


def _mark(look: Mapping[str, str]) -> dict[str, Any]:
    return {"color": look["color"], "marker": look["marker"], "ms": 4}


def _lines(
    axes: Any, rows: lab.Frame, x: str, columns: Mapping[str, str], look: Mapping[str, str]
) -> None:
    """Draw the medians of some columns, {name: dashes}."""
    for name, dashes in columns.items():
        middle = rows[lab.shown(rows[name])].groupby(x)[name].median()
        axes.plot(middle.index, middle, ls=dashes, **_mark(look))
