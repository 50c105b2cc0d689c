"""The report: picture, page, table and sentences, all computed from the tables of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.horizon.numbers import WHEN, Numbers
from experiments.lab import (
    Table,
    decimal,
    interval,
    short,
)
from seqcells import probes

TITLE = "Which memory reaches how far, and why"


def lead() -> str:
    """Return what is asked, and how it is measured."""
    recall, adding = probes.DelayedRecall(), probes.AddingURNN()
    return (
        "Delayed recall: a symbol is shown once, then distractors, and at the end the net must "
        "say which it was; the lag is the number of steps between. Solved: cross-entropy below "
        f"{recall.success.bound} nats on fresh samples (guessing costs {recall.baseline:.2f}); "
        "adding: "
        f"squared error below {adding.success.bound} (guessing costs {adding.baseline:.3f}). "
        "The gradient of the loss by the memory, by lag, is what a net can learn from at all."
    )


def reach(numbers: Numbers) -> Table:
    """How far each contender remembers, and its gradient at initialisation."""
    lags = [f"lag {lag}" if not i else str(lag) for i, lag in enumerate(numbers.lags)]
    rows = []
    for who in numbers.who:
        counts = [numbers.solved("recall", who, lag=lag) for lag in numbers.lags]
        counts.append(numbers.solved("adding", who))
        row = [who, *(f"{k}/{n}" if n else "-" for k, n in counts)]
        rows.append([*row, *(_gradient(numbers, who, WHEN[0]) or ["-", "-"])])
    far = numbers.longest
    return Table(
        title="Seeds that solve it; initial gradient",
        caption=f"Seeds that solve delayed recall, of those tried, by lag (steps), and adding over "
        f"{far} steps, at each cell's own learning rate. At initialisation: the gradient at lag "
        f"{far} relative to lag 0 (dimensionless), and the horizon, the steps in which it falls by "
        "a factor e.",
        head=["cell", *lags, "adding", "gradient", "horizon"],
        rows=rows,
    )


def _gradient(numbers: Numbers, who: str, when: str) -> list[str]:
    """What is left at the longest lag, and the horizon; nothing where it was not measured."""
    if who not in numbers.traced():
        return []
    return [short(numbers.left(who, when)), numbers.horizon(who, when)]


def every_place(numbers: Numbers) -> Table:
    """All successes with their intervals."""
    rows = []
    for task, who, lag, rate in _places(numbers):
        members = [*numbers.of(task, who, lag=lag, learning_rate=rate)]
        if task == "recall":
            members += numbers.of("rates", who, lag=lag, learning_rate=rate)
        k, n = sum(row["solved"] for row in members), len(members)
        loss = float(np.median([row["loss"] for row in members]))
        counted = [f"{k} of {n}", interval(k, n), short(loss), str(members[0]["steps"])]
        rows.append([task, who, str(lag), decimal(rate), *counted])
    return Table(
        title="Every lag and learning rate",
        caption="Lag: steps between symbol and report; for adding, the length of the sequence. "
        "Solved: k of n seeds, with the 95 % Wilson interval of the share. Median loss: nats for "
        "recall, squared error for adding, over the seeds. Steps: of training.",
        head=["task", "cell", "lag", "rate", "solved", "interval", "median loss", "steps"],
        rows=rows,
        texts=2,
    )


def _places(numbers: Numbers) -> list[tuple[str, str, int, float]]:
    """Task, cell, lag and learning rate wherever there are members, in the order of a reader."""
    order = {who: i for i, who in enumerate(numbers.who)}
    tasks = {"recall": "recall", "rates": "recall", "adding": "adding"}
    places = {
        (tasks[row["task"]], row["who"], row["lag"], row["learning_rate"])
        for row in numbers.results
    }
    return sorted(places, key=lambda p: (p[0] == "adding", order[p[1]], p[2], p[3]))


def gradients(numbers: Numbers) -> Table:
    """What is left of the gradient at the longest lag, before and after training."""
    rows = [
        [who, *(text for when in WHEN for text in _gradient(numbers, who, when))]
        for who in numbers.traced()
    ]
    return Table(
        title="Gradient by lag",
        caption="Left: the norm of the derivative of the loss by the memory at lag "
        f"{numbers.longest}, relative to lag 0; median over the seeds. Horizon: steps in which it "
        "falls by a factor e.",
        head=["cell", "left, at initialisation", "horizon", "left, after training", "horizon"],
        rows=rows,
    )


def budgets(run: dict[str, Any]) -> Table:
    """Learning rates and steps by cell, where the run tells them."""
    settings = run.get("settings", {})
    named = [(name, settings[name]) for name in ("tanh", "irnn", "gru") if name in settings]
    rows = [
        [name, decimal(budget["recall"]), decimal(budget["adding"]), str(budget["steps"])]
        for name, budget in named
    ]
    return Table(
        title="Budgets",
        caption="A cell's own learning rate on each task, and its steps of training at most; a "
        "group whose members have all learned stops before.",
        head=["cell", "rate, recall", "rate, adding", "steps at most"],
        rows=rows,
    )
