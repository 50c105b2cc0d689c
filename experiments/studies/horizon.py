"""Which memory reaches how far, and why: success and gradient by lag.

Four cells learn to report a symbol that they saw 10, 25, 50 or 100 steps before; the lag is data,
so one compiled program trains all lags and seeds of a cell. Beside it stand the gradient of the
loss by the memory at every lag, before and after training, and the adding problem.
"""

from __future__ import annotations

from pathlib import Path

from experiments.horizon.findings import findings, headlines
from experiments.horizon.numbers import Numbers
from experiments.horizon.picture import draw
from experiments.horizon.report import TITLE, budgets, every_place, gradients, lead, reach
from experiments.horizon.settings import QUICK, Settings
from experiments.horizon.study import OPTIMISER, groups
from experiments.lab import Study, Table, read_about


def _read(out: Path, _: str) -> tuple[Numbers, Table]:
    return Numbers.read(out), budgets(read_about(out))


STUDY = Study(
    name="horizon",
    title=TITLE,
    lead=lead(),
    settings=Settings(),
    quick=QUICK,
    groups=groups,
    read=_read,
    draw=lambda rows, path: draw(rows[0], path),
    answers=lambda rows: headlines(rows[0]),
    tables=lambda rows: [reach(rows[0]), every_place(rows[0]), gradients(rows[0]), rows[1]],
    findings=lambda rows: findings(rows[0]),
    cost=lambda groups: f"{sum(len(g.places) for g in groups)} runs",
    about={"optimiser": OPTIMISER},
    alt="Success by lag and by learning rate, adding, and the gradient by lag",
    files=("results", "gradients"),
)
