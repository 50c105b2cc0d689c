"""How far each cell remembers, and why: success and gradient by lag.

Four cells learn to report a symbol that they saw 10, 25, 50 or 100 steps before. The lag is data,
so one compiled program trains all lags and seeds of a cell. The study also measures the gradient of
the loss by the memory at every lag, before and after training, and the adding problem.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args

import tyro

from experiments import lab
from experiments.lab import AT_END, AT_START, CHRONO, GRU, IRNN, TANH, Arm, Run, RunGroup, Table
from experiments.studies.horizon import numbers
from experiments.studies.horizon.numbers import ADDING, RATES, RECALL, Numbers
from experiments.studies.horizon.picture import figure
from seqcells import probes, train

Name = Literal["tanh orthogonal", "IRNN identity", "GRU default", "GRU chrono"]  # of ARMS
ARMS = {arm.name: arm for arm in (TANH, IRNN, GRU, CHRONO)}
_Factors = Annotated[  # otherwise the help would show a third with sixteen digits
    tuple[float, ...],
    tyro.conf.arg(
        help_behavior_hint=lambda text: f"(default: {text.replace(str(1 / 3), 'a third')})"
    ),
]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The training of a cell, with AdamW and gradients clipped to a global norm of 1."""

    recall: float  # learning rate on delayed recall
    adding: float  # learning rate on the adding problem
    steps: int
    """maximal training steps; a group stops early once all its runs have learned"""


@dataclasses.dataclass(frozen=True)
class Settings(lab.CheckedSettings):
    """Settings of the study; docs/horizon.md says how the learning rates were found."""

    cells: tuple[Name, ...] = get_args(Name)  # cells to train
    seeds: int = 5
    """runs of every cell at every lag, each with its own random seed"""
    lags: tuple[int, ...] = dataclasses.field(default=(10, 25, 50, 100), metadata={"least": 2})
    """lags of delayed recall, steps, each at least 2; the longest is the length of both tasks"""
    factors: _Factors = (1 / 3, 3, 9)  # factors on the learning rate, tried at the longest lag
    factor_seeds: int = 3  # runs of every cell at every factor
    hidden_size: int = 32  # units of every net
    batch_size: int = 32  # sequences per training step
    segment: int = 50  # training steps between two checks of the loss
    eval_size: int = 10_000  # fresh sequences per loss and accuracy
    tanh: Budget = Budget(recall=3e-3, adding=3e-3, steps=1000)
    irnn: Budget = Budget(recall=5e-4, adding=3e-3, steps=1000)
    gru: Budget = Budget(recall=6e-3, adding=6e-3, steps=400)

    def __post_init__(self) -> None:
        super().__post_init__()
        lab.known("cells", self.cells, ARMS)
        for factor in self.factors:
            if math.isclose(factor, 1):
                raise lab.BadInput(
                    f"factors: expected factors other than 1, got {factor!r}; leave it out, "
                    "because the learning rate itself is always tried"
                )

    def budget(self, arm: Arm) -> Budget:
        """Return the budget of a cell."""
        return {TANH: self.tanh, IRNN: self.irnn}.get(arm, self.gru)


def _runs(s: Settings, task: str, arm: Arm) -> Iterator[Run]:
    """List the runs of a cell on a task."""
    longest, rate = max(s.lags), getattr(s.budget(arm), task)
    tried = [(ADDING, longest, rate, s.seeds)]
    if task == RECALL:
        tried = [(RATES, longest, f * rate, s.factor_seeds) for f in sorted(set(s.factors))]
        tried += [(RECALL, lag, rate, s.seeds) for lag in sorted(set(s.lags))]
    start = arm.start(s.hidden_size, longest)
    for name, lag, learning_rate, seeds in tried:
        labels = {"task": name, "arm": arm.name, "lag": lag}
        knobs = {"lag": lag} if task == RECALL else {}
        yield from lab.list_runs(labels, start, (learning_rate,), seeds, knobs)


def groups(s: Settings) -> list[RunGroup]:
    """List the groups: the lag of recall is data, so a cell and a task are one program."""
    longest = max(s.lags)
    tasks = {RECALL: probes.DelayedRecall(longest), ADDING: probes.AddingURNN(longest)}
    return [
        RunGroup(
            f"{task} {arm.name}",
            lab.Task(arm.run(s.hidden_size), probe, s.batch_size),
            tuple(_runs(s, task, arm)),
            s.budget(arm).steps,
            segment=s.segment,
            eval_size=s.eval_size,
            measures=(lab.GradientByLag({"task": RECALL, "lag": longest}),),
        )
        for task, probe in tasks.items()
        for arm in ARMS.values()
        if arm.name in s.cells
    ]


def reach(n: Numbers) -> Table:
    """Return the table of how far each cell remembers, and its gradient at initialisation."""
    rows = []
    for arm in n.arms:
        counts = [*(n.count(RECALL, arm, lag=lag) for lag in n.lags), n.count(ADDING, arm)]
        solved = [f"{c.k}/{c.n}" if c.n else "-" for c in counts]
        rows.append([arm, *solved, *(_gradient(n, arm, AT_START) or ["-", "-"])])
    lags = [str(lag) if i else f"lag {lag}" for i, lag in enumerate(n.lags)]
    return Table(
        title="Seeds that solve it; initial gradient",
        caption=f"Seeds that solve delayed recall, of those tried, by lag (steps), and adding over "
        f"{n.longest} steps, at each cell's own learning rate. At initialisation: the gradient at "
        f"lag {n.longest} relative to lag 0 (dimensionless), and the horizon, the steps in which "
        "it falls by a factor e.",
        head=["cell", *lags, "adding", "gradient", "horizon"],
        rows=rows,
    )


def _gradient(n: Numbers, arm: str, when: str) -> list[str]:
    """Return the gradient left at the longest lag, and the horizon; "" if not measured."""
    return [lab.short(n.left(when)[arm]), n.horizon(arm, when)] if arm in n.traced else []


def every_setting(n: Numbers) -> Table:
    """Return all successes with their intervals; recall at any learning rate is one task."""
    rows = n.results.replace({"task": {RATES: RECALL}}).sort_values(
        ["task", "arm", "lag", "learning_rate"],
        ascending=[False, True, True, True],
        key=lambda column: column.map(n.arms.index) if column.name == "arm" else column,
    )
    table = lab.settings_table(rows)
    return dataclasses.replace(
        table,
        title="Every lag and learning rate",
        caption="Lag: steps between symbol and report; for adding, the length of the sequence. "
        f"{table.caption} The loss is in nats for recall, a squared error for adding.",
    )


def gradients(n: Numbers) -> Table:
    """Return the table of the gradient left at the longest lag, before and after training."""
    return Table(
        title="Gradient by lag",
        caption=f"Left: the norm of the derivative of the loss by the memory at lag {n.longest}, "
        "relative to lag 0; median over the seeds. Horizon: steps in which it falls by a factor e.",
        head=["cell", "left, at initialisation", "horizon", "left, after training", "horizon"],
        rows=[[arm, *_gradient(n, arm, AT_START), *_gradient(n, arm, AT_END)] for arm in n.traced],
    )


def budgets(n: Numbers) -> Table:
    """Return the table of learning rates and steps by cell, if they are stored."""
    kept = {name: b for name, b in n.settings.items() if isinstance(b, Mapping)}
    return Table(
        title="Budgets",
        caption="A cell's own learning rate on each task, and its steps of training at most; a "
        "group whose runs have all learned stops earlier.",
        head=["cell", "rate, recall", "rate, adding", "steps at most"],
        rows=[
            [name, lab.decimal(b["recall"]), lab.decimal(b["adding"]), str(b["steps"])]
            for name, b in kept.items()
        ],
    )


_RECALL, _ADDING, _HPARAMS = probes.DelayedRecall(), probes.AddingURNN(), train.HParams()
STUDY = lab.Study(
    name="horizon",
    title="Which memory reaches how far, and why",
    lead="Delayed recall: a symbol is shown once, then distractors, and at the end the net must "
    "say which it was; the lag is the number of steps between. Solved: cross-entropy below "
    f"{_RECALL.success.bound} nats on fresh samples (guessing costs {_RECALL.baseline:.2f}); "
    f"adding: squared error below {_ADDING.success.bound} (guessing costs {_ADDING.baseline:.3f}). "
    "A net can learn only from the gradient of the loss by the memory, which is shown by lag.",
    settings=Settings(),
    quick=Settings(seeds=2, lags=(10, 50), factors=(3,), factor_seeds=2, hidden_size=16),
    groups=groups,
    read=numbers.read,
    draw=lambda n, path: lab.save(figure(n), path),
    answers=numbers.headlines,
    tables=lambda n: [reach(n), every_setting(n), gradients(n), budgets(n)],
    findings=numbers.findings,
    about={
        "optimiser": f"AdamW, b1 {_HPARAMS.b1:g}, b2 {_HPARAMS.b2:g}, weight decay "
        f"{_HPARAMS.weight_decay:g}, gradients clipped to a global norm of {_HPARAMS.max_norm:g}"
    },
    alt="Success by lag and by learning rate, adding, and the gradient by lag",
    caption="Look first at the upper left, for the lag at which each line falls; then at the same "
    "colour below, for how much gradient is left at that lag.",
    files=("results", "gradients"),
)
