"""The report: picture, page, table and sentences, all computed from the two CSV files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments._report import short, wilson, words, write_page
from experiments.horizon.numbers import Numbers
from experiments.horizon.picture import draw
from seqcells import probes

TITLE = "Which memory reaches how far, and why"
LEAD = (
    "Delayed recall: a symbol is shown once, then distractors, and at the end the net must say "
    "which it was. The lag is the number of steps between. Beside the successes stands the "
    "gradient of the loss by the memory, by lag: what a net can learn from at all. Each cell runs "
    "at one learning rate, and at the longest lag at several."
)


def report(out: Path, console: Console) -> None:
    """Draw horizon.png, write report.html, print the finding; from the two CSV files alone."""
    numbers = Numbers.read(out)
    picture = out / "horizon.png"
    draw(numbers, picture)
    sentences = findings(numbers)
    head, rows = table(numbers)
    write_page(
        out / "report.html",
        picture,
        title=TITLE,
        lead=LEAD,
        findings=sentences,
        alt="Success by lag and by learning rate, adding, and the gradient by lag",
        tables=[{"title": "In numbers", "head": head, "rows": rows}, _every_place(numbers)],
        footer=f"{_columns(numbers)} {_solved_means()} Intervals are Wilson's, 95 %. "
        "Every number here is computed from results.csv and gradients.csv, which lie beside it.",
    )
    printed = Table(title=TITLE, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(head):
        printed.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        printed.add_row(*row)
    console.print(printed)
    console.print(f"{_columns(numbers)} {_solved_means()}\n", highlight=False)
    for sentence in sentences:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"\nPicture: {picture}\nReport:  {out / 'report.html'}", highlight=False)


def _columns(numbers: Numbers) -> str:
    return (
        "Columns: seeds that solve delayed recall at each lag (steps), and adding over "
        f"{max(numbers.lags)} steps; at initialisation, the gradient left at lag {numbers.reach} "
        "relative to lag 0, and the horizon, the steps in which it falls by e; milliseconds that a "
        "training step takes for one member."
    )


def _solved_means() -> str:
    recall, adding = probes.DelayedRecall(), probes.Adding()
    return (
        f"Solved: cross-entropy below {recall.threshold} nats (guessing: {recall.baseline:.2f}); "
        f"adding: squared error below {adding.threshold} (guessing: {adding.baseline:.3f})."
    )


def table(numbers: Numbers) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the finding, a row a contender."""
    head = ["cell", f"lag {numbers.lags[0]}", *map(str, numbers.lags[1:])]
    head += ["adding", "gradient", "horizon", "ms/step"]
    rows = []
    for who in numbers.who:
        counts = [numbers.solved("recall", who, lag=lag) for lag in numbers.lags]
        counts.append(numbers.solved("adding", who))
        far = numbers.left(who, "initialisation")
        horizon = numbers.horizon(who, "initialisation")
        ms = numbers.milliseconds(who)
        row = [who, *(f"{k}/{n}" if n else "-" for k, n in counts)]
        rows.append([*row, short(far), short(horizon), f"{ms:.2f}"])
    return head, rows


def _every_place(numbers: Numbers) -> dict[str, Any]:
    """All successes with their intervals, for the page."""
    rows = []
    keys = ("task", "who", "lag", "learning_rate")
    for place in dict.fromkeys(tuple(row[key] for key in keys) for row in numbers.results):
        task, who, lag, rate = place
        members = numbers.of(task, who, lag=lag, learning_rate=rate)
        loss = float(np.median([row["loss"] for row in members]))
        accuracy = float(np.median([row["accuracy"] for row in members]))
        share = _share(numbers, task, who, lag=lag, learning_rate=rate)
        numbered = [share, short(loss), f"{accuracy:.3f}", str(members[0]["steps"])]
        rows.append([f"{task}, {who}", str(lag), short(rate), *numbered])
    head = ["task, cell", "lag", "learning rate", "solved (interval)"]
    head += ["median loss", "median accuracy", "steps"]
    return {"title": "Every lag and learning rate", "head": head, "rows": rows}


def _share(numbers: Numbers, task: str, who: str, **where: float) -> str:
    """How many seeds succeed, with the interval."""
    k, n = numbers.solved(task, who, **where)
    low, high = wilson(k, n)
    return f"{k} of {n} ({low:.2f} to {high:.2f})"


def findings(numbers: Numbers) -> list[str]:
    """Say what the numbers say, a sentence each."""
    lag = max(numbers.lags)
    order = sorted(numbers.who, key=lambda who: -numbers.solved("recall", who, lag=lag)[0])
    recall = [f"{who} in {_share(numbers, 'recall', who, lag=lag)}" for who in order]
    adding = [f"{who} in {_share(numbers, 'adding', who)}" for who in numbers.who]
    ms = {who: numbers.milliseconds(who) for who in numbers.who}
    quick, slow = min(ms, key=lambda who: ms[who]), max(ms, key=lambda who: ms[who])
    return [
        f"A symbol seen {lag} steps ago is recalled, of the seeds, by {words(recall)}.",
        _reach(numbers),
        *_rates(numbers, lag),
        f"At initialisation, {_decay(numbers, 'initialisation')}",
        f"After training, {_decay(numbers, 'after training')}",
        f"Adding over the same {lag} steps is solved, of the seeds, by {words(adding)}."
        + _flattered(numbers, lag),
        f"A training step of one member takes {ms[quick]:.2f} ms for {quick} and {ms[slow]:.2f} ms "
        f"for {slow}, {ms[slow] / ms[quick]:.1f} times as long.",
    ]


def _reach(numbers: Numbers) -> str:
    """Up to which lag most seeds succeed, at the learning rate of each."""

    def far(who: str) -> int:
        return max((g for g in numbers.lags if numbers.most("recall", who, lag=g)), default=0)

    rows = [
        f"{who} {far(who) or 'none'} (learning rate {short(numbers.rate(who))})"
        for who in sorted(numbers.who, key=far, reverse=True)
    ]
    return f"The longest lag that most seeds learn: {words(rows)}."


def _rates(numbers: Numbers, lag: int) -> list[str]:
    """At which learning rates the longest lag is learned, and whom the rate held back."""

    def good(who: str) -> list[str]:
        return [short(rate) for rate, (k, n) in numbers.by_rate(who).items() if 2 * k > n]

    def row(who: str) -> str:
        tried = words([short(rate) for rate in numbers.by_rate(who)])
        return f"{who} at {words(good(who)) if good(who) else 'none'} of {tried}"

    sentences = [
        f"Learning rates at which most seeds learn a lag of {lag}: "
        f"{'; '.join(row(who) for who in numbers.who)}."
    ]
    held = [who for who in numbers.who if good(who) and not numbers.most("recall", who, lag=lag)]
    if held:
        sentences.append(
            f"So it is the learning rate, not the cell, that keeps {words(held)} from {lag} steps."
        )
    return sentences


def _decay(numbers: Numbers, when: str) -> str:
    """How much of the gradient is left at the longest lag, and how fast it falls."""
    far = {who: numbers.left(who, when) for who in numbers.who}

    def row(who: str) -> str:
        horizon = numbers.horizon(who, when)
        pace = f"a factor e every {short(horizon)} steps" if np.isfinite(horizon) else "no decay"
        return f"{short(far[who])} for {who} ({pace})"

    rows = [row(who) for who in sorted(numbers.who, key=lambda who: -far[who])]
    return (
        f"the gradient {numbers.reach} steps back, relative to that at the last step, is "
        f"{words(rows)}."
    )


def _flattered(numbers: Numbers, lag: int) -> str:
    """Name the contenders that adding flatters: most seeds add, but do not recall as far."""
    names = [
        who
        for who in numbers.who
        if numbers.most("adding", who) and not numbers.most("recall", who, lag=lag)
    ]
    if not names:
        return ""
    return f" It flatters {words(names)}: most seeds add, few recall, over the same distance."
