"""Newton in time: when the steps of a sequence can be solved for at once, and when not.

Iterations of Newton's method by number of steps, gain, Lyapunov exponent and progress of training,
the errors of what it reports as converged, and what all of it costs.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments import lab
from experiments.studies.newton.measures import (
    MOST,
    ROWS,
    STEPS,
    TABLES,
    Nets,
    Settings,
    Trainings,
)
from experiments.studies.newton.picture import draw
from experiments.studies.newton.verdicts import Found, claims, read

WAYS = ("scan", "newton", "diagonal", "exponent")  # that are timed


def groups(s: Settings) -> list[Nets | Trainings]:
    """List the groups."""
    nets = [Nets(arm, s, length) for arm in s.cells for length in s.lengths]
    return [*nets, *(Trainings(arm, s) for arm in s.cells)]


def _nets_table(rows: lab.Frame) -> lab.Table:
    lines = []
    for (arm, gain, length), some in rows.groupby(["arm", "gain", "length"], sort=False):
        good = some[some["converged"]]
        ratio = lab.short((good["error"] / good["scan_error"]).max()) if len(good) else "-"
        missed = some["first_order"] / some["estimate"]
        counts = [f"{some[name].median():g}" for name in ("iterations", "diagonal")]
        numbers = [f"{some['exponent'].median():.3f}", *counts, f"{len(good)} of {len(some)}"]
        misses = [ratio, str(int((missed > 1).sum())), lab.short(missed.max())]
        lines.append([arm, f"{gain:g}", str(length), *numbers, *misses])
    return lab.Table(
        title="Nets at initialisation",
        caption="Exponent: the first of Lyapunov, nats a step. Iterations with the full Jacobian, "
        f"and with its diagonal; {MOST} is the most allowed. Medians over the nets. Error: in "
        "float32, over that of a scan, the largest of those that converged. Missed: how often the "
        "error was larger than error_estimate, and the largest ratio, where an error of first "
        "order was left.",
        head=[
            *("cell", "gain", "steps", "exponent", "full", "diagonal", "converged"),
            *("error", "missed", "ratio"),
        ],
        rows=lines,
        texts=1,
    )


def _training_table(rows: lab.Frame) -> lab.Table:
    names = ("cold", "diagonal", "warm", "fresh")
    lines = [
        [arm, str(update), lab.short(some["loss"].median()), f"{some['exponent'].median():.3f}"]
        + [f"{some[name].median():g}" for name in names]
        for (arm, update), some in rows.groupby(["arm", "update"], sort=False)
    ]
    return lab.Table(
        title="In training",
        caption=f"Full batches of {ROWS} sequences of {STEPS} steps; the most iterations of a "
        "sequence, and the largest exponent. Cold: without a guess; diagonal: likewise, with the "
        "diagonal Jacobian; warm: from the carries before the last update; fresh: from those of "
        "other sequences. Medians over the seeds.",
        head=["cell", "update", "loss", "exponent", *names],
        rows=lines,
        texts=1,
    )


def _times_table(rows: lab.Frame) -> lab.Table:
    return lab.Table(
        title="Time",
        caption="One sequence, forward, ms: a scan, Newton's method with both Jacobians, and the "
        "first Lyapunov exponent. The least of three calls.",
        head=["cell", "gain", "steps", *WAYS],
        rows=[
            [row["arm"], f"{row['gain']:g}", str(row["length"])]
            + [lab.short(row[name]) for name in WAYS]
            for row in rows.to_dict("records")
        ],
        texts=1,
    )


def answers(found: Found) -> list[str]:
    """Say how iterations grow, and what they cost."""
    if found.times.empty:
        return []
    ratio = found.times["newton"] / found.times["scan"]
    cost = found.times["exponent"] / found.times["scan"]
    return [
        f"Newton's method took {lab.short(ratio.min())} to {lab.short(ratio.max())} times as long "
        f"as a scan on this processor, and the Lyapunov exponent {lab.short(cost.min())} to "
        f"{lab.short(cost.max())} times."
    ]


def _cost(groups: Sequence[Nets | Trainings]) -> str:
    nets = sum(group.steps for group in groups if isinstance(group, Nets))
    return f"{nets} nets at initialisation, and {len(groups)} groups in all"


STUDY = lab.Study(
    name="newton",
    title="All steps at once, by Newton's method: when it converges, and what it costs",
    lead="The carries of a sequence solve one system of equations, which Newton's method solves "
    "in few iterations, each parallel over the steps, if the net forgets. Nets with random "
    "weights of several sizes, and nets in training, are solved from no guess; float64 tells how "
    "far the results are off.",
    settings=Settings(),
    quick=Settings(cells=("RNN",), lengths=(100, 1000), seeds=6, updates=(1, 10, 100)),
    groups=groups,
    claims=claims,
    draw=draw,
    answers=answers,
    tables=lambda found: [
        _training_table(found.training),
        _nets_table(found.results),
        _times_table(found.times),
    ],
    read=read,
    cost=_cost,
    about={"optimiser": "Adam, full batches"},
    terms={
        "gain": "the standard deviation of a sum over the recurrent weights, of units of variance 1"
    },
    caption="Top left: left of the line at 0, few iterations suffice; right of it, the net is "
    "chaotic and the result must not be trusted. Bottom left: training brings nets nearer to the "
    "line, and a guess from the last update helps.",
    files=tuple(TABLES),
)
