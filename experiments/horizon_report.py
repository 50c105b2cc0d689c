"""The report of `horizon`: picture, page and table, all computed from its two CSV files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

import seqcells as sc
from experiments._report import short, wilson, words, write_page
from seqcells import probes

TITLE = "Which memory reaches how far, and why"
LEAD = (
    "Delayed recall: a symbol is shown once, then distractors, and at the end the net must say "
    "which it was. The lag is the number of steps between. A net can only learn what its gradient "
    "reaches, so beside the successes stands the gradient of the loss by the memory, by lag."
)
FIT = (10, 90)  # lags between which a decay is fitted, cut to those there are, steps
COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73")  # Okabe and Ito's, safe for colour blindness
MARKERS = ("o", "s", "v", "^")


Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The rows of the two tables, and what is computed from them."""

    results: list[Row]
    gradients: list[Row]

    @classmethod
    def read(cls, out: Path) -> Numbers:
        """Read the tables of a run; raise an error that says what to do where there is none."""
        tables: list[list[Row]] = []
        for path in (out / "results.csv", out / "gradients.csv"):
            rows = pd.read_csv(path).to_dict("records") if path.exists() else []
            if not rows:
                raise FileNotFoundError(
                    f"out: expected results.csv and gradients.csv with rows in {out}; make them "
                    "with python -m experiments run horizon"
                )
            tables.append([{"who": f"{r['cell']} {r['init']}", **r} for r in rows])  # pyright: ignore[reportCallIssue,reportArgumentType] -- column names are strings
        return cls(*tables)

    @property
    def who(self) -> list[str]:
        """The contenders, in the order of the study."""
        return list(dict.fromkeys(row["who"] for row in self.gradients))

    @property
    def lags(self) -> list[int]:
        """Lags of delayed recall, shortest first."""
        return sorted({row["lag"] for row in self.of("recall")})

    @property
    def reach(self) -> int:
        """The longest lag of a gradient."""
        return max(row["lag"] for row in self.gradients)

    def of(self, task: str, who: str | None = None, lag: int | None = None) -> list[Row]:
        """Rows of a task, of a contender, at a lag."""
        return [
            row
            for row in self.results
            if row["task"] == task and who in (None, row["who"]) and lag in (None, row["lag"])
        ]

    def solved(self, task: str, who: str, lag: int | None = None) -> tuple[int, int]:
        """How many members solved the task, of how many."""
        rows = self.of(task, who, lag)
        return sum(row["solved"] for row in rows), len(rows)

    def gradient(self, who: str, when: str) -> np.ndarray:
        """Gradient norm by lag, relative to lag 0."""
        rows = [row for row in self.gradients if (row["who"], row["when"]) == (who, when)]
        norms = np.array([row["norm"] for row in sorted(rows, key=lambda row: row["lag"])])
        return norms / norms[0]

    def left(self, who: str, when: str) -> float:
        """Gradient norm at the longest lag, relative to lag 0."""
        return float(self.gradient(who, when)[-1])

    def horizon(self, who: str, when: str) -> float:
        """Steps in which the gradient falls by e, fitted over the lags of FIT."""
        norms = self.gradient(who, when)
        window = min(FIT[0], len(norms) - 2), min(FIT[1], len(norms) - 1)
        return float(sc.diagnostics.rate_and_horizon(norms, window).horizon)

    def milliseconds(self, who: str) -> float:
        """Milliseconds a training step of one member takes on delayed recall."""
        rows = self.of("recall", who)
        return float(np.mean([row["seconds"] / row["steps"] for row in rows]) * 1e3)


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
        alt="Success by lag, the adding problem, and the gradient by lag before and after training",
        tables=[{"title": "In numbers", "head": head, "rows": rows}, _every_lag(numbers)],
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
        counts = [numbers.solved("recall", who, lag) for lag in numbers.lags]
        counts.append(numbers.solved("adding", who))
        far = numbers.left(who, "initialisation")
        horizon = numbers.horizon(who, "initialisation")
        ms = numbers.milliseconds(who)
        row = [who, *(f"{k}/{n}" if n else "-" for k, n in counts)]
        rows.append([*row, short(far), short(horizon), f"{ms:.2f}"])
    return head, rows


def _every_lag(numbers: Numbers) -> dict[str, Any]:
    """All successes with their intervals, for the page."""
    rows = []
    for task, who, lag in dict.fromkeys((r["task"], r["who"], r["lag"]) for r in numbers.results):
        members = numbers.of(task, who, lag)
        k, n = numbers.solved(task, who, lag)
        low, high = wilson(k, n)
        loss = float(np.median([row["loss"] for row in members]))
        accuracy = float(np.median([row["accuracy"] for row in members]))
        share = f"{k} of {n} ({low:.2f} to {high:.2f})"
        steps = str(members[0]["steps"])
        rows.append([f"{task}, {who}", str(lag), share, short(loss), f"{accuracy:.3f}", steps])
    head = ["task, cell", "lag", "solved (interval)", "median loss", "median accuracy", "steps"]
    return {"title": "Every lag", "head": head, "rows": rows}


def findings(numbers: Numbers) -> list[str]:
    """Say what the numbers say, a sentence each."""
    lag = max(numbers.lags)

    def share(task: str, who: str) -> str:
        k, n = numbers.solved(task, who, lag)
        low, high = wilson(k, n)
        return f"{who} in {k} of {n} seeds (interval {low:.2f} to {high:.2f})"

    def rank(who: str) -> float:
        return -numbers.solved("recall", who, lag)[0]

    sentences = [
        f"A symbol seen {lag} steps ago is recalled by "
        f"{words([share('recall', who) for who in sorted(numbers.who, key=rank)])}.",
        _reach(numbers),
    ]
    for when in ("initialisation", "after training"):
        place = "At initialisation" if when == "initialisation" else "After training"
        sentences.append(f"{place}, {_decay(numbers, when)}")
    adding = [who for who in numbers.who if numbers.solved("adding", who)[1]]
    if adding:
        sentences.append(
            f"The adding problem over the same {lag} steps is solved by "
            f"{words([share('adding', who) for who in adding])}.{_flattered(numbers, lag)}"
        )
    ms = {who: numbers.milliseconds(who) for who in numbers.who}
    quick, slow = min(ms, key=lambda who: ms[who]), max(ms, key=lambda who: ms[who])
    sentences.append(
        f"A training step of one member takes {ms[quick]:.2f} ms for {quick} and {ms[slow]:.2f} ms "
        f"for {slow}, {ms[slow] / ms[quick]:.1f} times as long."
    )
    return sentences


def _reach(numbers: Numbers) -> str:
    """Up to which lag most seeds succeed."""

    def far(who: str) -> int:
        good = [lag for lag in numbers.lags if _most(*numbers.solved("recall", who, lag))]
        return max(good, default=0)

    rows = [f"{who} {far(who) or 'at none'}" for who in sorted(numbers.who, key=far, reverse=True)]
    return f"The longest lag at which most seeds succeed: {words(rows)}."


def _most(k: int, n: int) -> bool:
    return 2 * k > n


def _decay(numbers: Numbers, when: str) -> str:
    """How much of the gradient is left at the longest lag, and how fast it falls."""
    far = {who: numbers.left(who, when) for who in numbers.who}
    order = sorted(numbers.who, key=lambda who: -far[who])

    def row(who: str) -> str:
        horizon = numbers.horizon(who, when)
        pace = f"a factor e every {short(horizon)} steps" if np.isfinite(horizon) else "no decay"
        return f"{short(far[who])} for {who} ({pace})"

    return (
        f"the gradient {numbers.reach} steps back, relative to that at the last step, is "
        f"{words([row(who) for who in order])}."
    )


def _flattered(numbers: Numbers, lag: int) -> str:
    """Name the contenders that most seeds of adding flatter: recall at the same lag fails."""
    names = [
        who
        for who in numbers.who
        if _most(*numbers.solved("adding", who)) and not _most(*numbers.solved("recall", who, lag))
    ]
    if not names:
        return ""
    return f" It flatters {words(names)}: most seeds add, few recall, over the same distance."


def draw(numbers: Numbers, path: Path) -> None:
    """Draw the four panels."""
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False}):
        figure = Figure(figsize=(10, 7.5), dpi=150, layout="constrained")
        (reach, adding), (before, after) = figure.subplots(2, 2, width_ratios=(1.3, 1))
        _draw_reach(reach, numbers)
        _draw_adding(adding, numbers)
        _draw_gradient(before, numbers, "initialisation", "Gradient by lag, at initialisation")
        _draw_gradient(after, numbers, "after training", "Gradient by lag, after training")
        floor = min(axes.get_ylim()[0] for axes in (before, after))
        top = max(axes.get_ylim()[1] for axes in (before, after))
        for axes in (before, after):
            axes.set_ylim(max(floor, 1e-20), top)
        for axes in figure.axes:
            axes.spines["right"].set_visible(False)
        figure.legend(*reach.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        figure.savefig(path)


def _draw_reach(axes: Axes, numbers: Numbers) -> None:
    width = 0.18
    for i, who in enumerate(numbers.who):
        counts = [numbers.solved("recall", who, lag) for lag in numbers.lags]
        place = np.arange(len(counts)) + (i - (len(numbers.who) - 1) / 2) * width
        share = np.array([k / n for k, n in counts])
        low, high = np.array([wilson(k, n) for k, n in counts]).T
        style = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": "none", "capsize": 3}
        errors = np.maximum([share - low, high - share], 0)
        axes.errorbar(place, share, errors, label=who, markersize=7, **style)
    axes.set_xticks(range(len(numbers.lags)), [str(lag) for lag in numbers.lags])
    axes.set(
        title="Delayed recall: share of seeds that solve it",
        xlabel="lag, steps",
        ylabel="solved (Wilson 95 %)",
        ylim=(-0.05, 1.05),
    )


def _draw_adding(axes: Axes, numbers: Numbers) -> None:
    for i, who in enumerate(numbers.who):
        loss = [row["loss"] for row in numbers.of("adding", who)]
        spread = np.linspace(-0.15, 0.15, len(loss)) if len(loss) > 1 else [0.0] * len(loss)
        axes.scatter(i + np.asarray(spread), loss, color=COLOURS[i], marker=MARKERS[i])
    probe = probes.Adding()
    for height, text in ((probe.baseline, "guessing"), (probe.threshold, "solved below")):
        axes.axhline(height, color="#777777", linewidth=0.8, linestyle="--")
        axes.text(len(numbers.who) - 0.5, height * 1.05, text, ha="right", va="bottom", fontsize=8)
    axes.set_xlim(-0.5, len(numbers.who) - 0.5)
    axes.set_xticks(range(len(numbers.who)), [who.replace(" ", "\n") for who in numbers.who])
    steps = max(numbers.lags)
    axes.set(
        title=f"Adding over {steps} steps, a mark a seed", yscale="log", ylabel="squared error"
    )
    axes.spines["right"].set_visible(False)


def _draw_gradient(axes: Axes, numbers: Numbers, when: str, title: str) -> None:
    for i, who in enumerate(numbers.who):
        norms = numbers.gradient(who, when)
        shown = np.where(norms > 0, norms, np.nan)
        axes.semilogy(np.arange(len(norms)), shown, color=COLOURS[i], label=who)
    axes.set(title=title, xlabel="lag, steps", ylabel=r"$\|dL/dh\|$, relative to lag 0")
