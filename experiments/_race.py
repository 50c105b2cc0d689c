"""Studies: run what they list, count who solved it, judge what was claimed, draw and report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.text import Text

from experiments import _study
from experiments._check import BadInput
from experiments._report import (
    VERDICTS,
    Table,
    as_text,
    decimal,
    interval,
    made,
    print_table,
    say,
    short,
    wilson,
    write_page,
)
from experiments._study import write_whole

Frame = Any  # pandas.DataFrame of runs, a row each; a type checker cannot follow its columns


class Verdict(NamedTuple):
    """What the rows say of a claim."""

    holds: bool | None  # None where they say nothing
    found: str  # the numbers


class Claim(NamedTuple):
    """What was claimed, and how rows judge it."""

    text: str
    source: str
    judge: Callable[[Frame], Verdict]


class Count(NamedTuple):
    """How many of some runs solved their task, and when."""

    k: int
    n: int
    median: float  # steps by which half had solved it; inf where fewer did
    steps: int  # of training, at most

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the share."""
        return wilson(self.k, self.n)

    @property
    def text(self) -> str:
        """Say k of n, with the interval of the share."""
        return f"{self.k} of {self.n} (95 % interval {interval(self.k, self.n)})"

    @property
    def when(self) -> str:
        """Say when half had solved it."""
        return f"more than {self.steps}" if math.isinf(self.median) else f"{self.median:.0f}"


def count(rows: Frame) -> Count:
    """Count who solved it; those that did not are censored, and later than all others."""
    at = rows["solved_at"].where(rows["solved"], math.nan).fillna(math.inf)
    median = float(np.sort(at)[(len(at) - 1) // 2]) if len(at) else math.inf
    steps = int(rows["steps"].max()) if len(rows) else 0
    return Count(int(rows["solved"].sum()), len(rows), median, steps)


def pick(rows: Frame, **where: Any) -> Frame:
    """Take the rows that have these values."""
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def share_at_least(share: float, within: int | None = None, **where: Any) -> Callable[..., Verdict]:
    """Judge that at least a share of some runs solve their task, within some steps."""
    return _share(lambda found: found >= share, within, where)


def share_at_most(share: float, within: int | None = None, **where: Any) -> Callable[..., Verdict]:
    """Judge that at most a share of some runs solve their task, within some steps."""
    return _share(lambda found: found <= share, within, where)


def _share(
    good: Callable[[float], bool], within: int | None, where: dict[str, Any]
) -> Callable[[Frame], Verdict]:
    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return Verdict(None, "not run")
        if within is not None:
            rows = rows.assign(solved=rows["solved"] & (rows["solved_at"] <= within))
        counts = [count(group) for _, group in rows.groupby(_places(rows), sort=False)]
        return Verdict(all(good(c.k / c.n) for c in counts), "; ".join(f"{c.text}" for c in counts))

    return judge


def best(rows: Frame) -> Frame:
    """Keep, of rows that differ in learning rate and seed, those of the rate that solves most."""
    found = {rate: count(group) for rate, group in rows.groupby("learning_rate")}  # in order
    return pick(rows, learning_rate=min(found, key=lambda r: (-found[r].k, found[r].median)))


def at_best(rows: Frame) -> Frame:
    """Keep the rows of every arm at its best learning rate, at each task and length."""
    kept = [best(group).index for _, group in rows.groupby(["task", "arm", "length"], sort=False)]
    return rows.loc[[i for index in kept for i in index]]


def ahead(arm: str, other: str, **where: Any) -> Callable[[Frame], Verdict]:
    """Judge that an arm solves tasks more often than another: somewhere, and nowhere less often.

    Both stand at their best learning rate. More often is what 95 % intervals that lie apart say.
    """
    return _compared(arm, other, where, lambda more, less: bool(more) and not less)


def not_behind(arm: str, other: str, **where: Any) -> Callable[[Frame], Verdict]:
    """Judge that an arm solves no task less often than another; see `ahead`."""
    return _compared(arm, other, where, lambda more, less: not less)


def _compared(
    arm: str, other: str, where: dict[str, Any], judge: Callable[[list[str], list[str]], bool]
) -> Callable[[Frame], Verdict]:
    def verdict(rows: Frame) -> Verdict:
        rows, more, less, told, enough = pick(rows, **where), [], [], [], False
        for (task, length), place in rows.groupby(["task", "length"], sort=False):
            one, two = pick(place, arm=arm), pick(place, arm=other)
            if one.empty or two.empty:
                continue
            a, b = count(best(one)), count(best(two))
            told.append(f"{task} {length}: {a.k} of {a.n} against {b.k} of {b.n}")
            more += told[-1:] * (a.interval[0] > b.interval[1])
            less += told[-1:] * (a.interval[1] < b.interval[0])
            enough = enough or wilson(0, a.n)[1] < wilson(b.n, b.n)[0]
        if not told:
            return Verdict(None, "not run")
        few = "" if enough else "; too few seeds to tell"
        return Verdict(judge(more, less) if enough else None, "; ".join(told) + few)

    return verdict


def loss_between(low: float, high: float, **where: Any) -> Callable[[Frame], Verdict]:
    """Judge that the median seed's loss, at the learning rate where it is least, lies between."""

    def judge(rows: Frame) -> Verdict:
        rows = pick(rows, **where)
        if rows.empty:
            return Verdict(None, "not run")
        medians = rows.groupby("learning_rate")["loss"].median()
        told = ", ".join(f"{loss:.3g} at {rate:g}" for rate, loss in medians.items())
        return Verdict(bool(low <= medians.min() <= high), f"median loss {told}")

    return judge


def _places(rows: Frame) -> list[str]:
    """The columns that tell runs apart, but for their seeds."""
    return [*rows.columns[: rows.columns.get_loc("learning_rate")], "learning_rate"]


def read(out: Path, name: str) -> Frame:
    """Read the rows of a run; raise an error that says what to do where there are none."""
    path = out / "results.csv"
    try:
        rows = pd.read_csv(path)
    except (FileNotFoundError, ValueError):
        rows = pd.DataFrame()
    if rows.empty:
        raise BadInput(
            f"out: expected results.csv with rows in {out}, found none; "
            f"make it with python -m experiments run {name}"
        )
    return rows


def word(verdict: Verdict) -> str:
    """Say whether a claim holds."""
    return VERDICTS[verdict.holds][0]


def summary(verdicts: Sequence[Verdict]) -> str:
    """Say how many claims hold."""
    judged = [verdict.holds for verdict in verdicts if verdict.holds is not None]
    if not judged:
        return "No claim was measured."
    left = f"; {len(verdicts) - len(judged)} were not measured" * (len(judged) < len(verdicts))
    return f"Of {len(judged)} claims, {sum(judged)} hold{left}."


def verdict_table(claims: list[tuple[Claim, Verdict]]) -> Table:
    """Each claim, what was found, and the verdict; a source that all share is told once."""
    sources = sorted({claim.source for claim, _ in claims})
    many = len(sources) > 1
    common = "" if many else "".join(f"Source: {source}. " for source in sources)
    return Table(
        title="What was claimed, and what was found",
        caption=f"{common}Verdicts are computed from the rows. A seed is one training, from its "
        "own random start; a count of seeds stands with its 95 % Wilson interval, the shares that "
        "so few seeds leave open.",
        head=["claim", *["source"] * many, "verdict", "found"],
        rows=[[c.text, *[c.source] * many, word(v), v.found] for c, v in claims],
        texts=3 + many,
    )


def place_table(rows: Frame) -> Table:
    """Every place where runs differ by their seeds alone."""
    names = _places(rows)
    lines = []
    for place, group in rows.groupby(names, sort=False):
        c = count(group)
        labels = [decimal(v) if isinstance(v, float) else str(v) for v in place]
        counted = [f"{c.k} of {c.n}", interval(c.k, c.n), c.when, str(c.steps)]
        loss = short(float(group["loss"].median()))
        time = short(1e3 * float(group["seconds_per_step"].median()))
        lines.append([*labels, *counted, loss, time])
    return Table(
        title="Every place",
        caption="Solved: k of n seeds, with the 95 % Wilson interval of the share. Median steps: "
        "those by which half of the seeds had solved it; a seed that never did counts as later. "
        "Loss: the median over seeds, on fresh samples. Time: ms of a step of one run, among the "
        "others of its group.",
        head=[*names[:-1], "rate", "solved", "interval", "median steps", "of", "loss", "ms"],
        rows=lines,
        texts=len(names) - 1,
    )


def _listed(named: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in named.items())


def trial_cost(groups: Sequence[Any]) -> str:
    """Say what trials cost before they run."""
    runs, steps = sum(len(g.runs) for g in groups), sum(len(g.runs) * g.steps for g in groups)
    return f"{runs} runs, at most {steps:,} steps of training in all"


@dataclasses.dataclass(frozen=True)
class Study:
    """A study: its module calls `run` and `report` by their names.

    Attributes:
        name: as it is typed.
        title: of the page.
        lead: what is asked, and how it was measured.
        terms: what words of the picture and the tables mean.
        groups: settings -> what is measured in one go, such as `Trials`.
        claims: settings as they were run -> what is judged.
        draw: (rows, path) -> draws the picture.
        answers: rows -> what the page says first, a sentence each.
        tables: rows -> the tables of all there is; the first is printed, too.
        cost: groups -> what they cost, said before they run.
        minutes: what its settings took on two cores of an AMD EPYC (Zen 4).
    """

    name: str
    title: str
    lead: str
    groups: Callable[[Any], Sequence[Any]]
    claims: Callable[[dict[str, Any]], list[Claim]]
    draw: Callable[[Frame, Path], None]
    terms: dict[str, str] = dataclasses.field(default_factory=dict)
    answers: Callable[[Frame], list[str]] = lambda rows: []
    tables: Callable[[Frame], list[Table]] = lambda rows: [place_table(rows)]
    cost: Callable[[Sequence[Any]], str] = trial_cost
    minutes: dict[Any, float] = dataclasses.field(default_factory=dict)

    def run(self, settings: Any, out: Path, console: Console, command: str = "") -> None:
        """Measure what is not finished yet, then report."""
        groups, minutes = self.groups(settings), self.minutes.get(settings)
        took = f"; it took {minutes:g} minutes on two cores of an AMD EPYC" if minutes else ""
        say(console, f"{self.title}: {self.cost(groups)}{took}.")
        about = {"command": command, "settings": dataclasses.asdict(settings)}
        _study.measure(groups, out, console, about)
        self.report(out, console)

    def report(self, out: Path, console: Console) -> None:
        """Draw the picture, write the page, print the verdicts; from the files in `out` alone."""
        rows, told = read(out, self.name), _study.about(out)
        picture = out / f"{self.name}.png"
        self.draw(rows, picture)
        claims = [(claim, claim.judge(rows)) for claim in self.claims(told.get("settings", {}))]
        tables = [verdict_table(claims), *self.tables(rows)]
        names = told.get("unfinished", [])
        alarm = f"Not finished: {', '.join(names)}. The same command goes on." if names else ""
        write_page(
            out / "report.html",
            picture,
            title=self.title,
            alarm=alarm,
            alt=self.title,
            lead=self.lead,
            terms=self.terms,
            headlines=[*self.answers(rows), summary([verdict for _, verdict in claims])],
            tables=[table for table in tables if table.rows],
            findings=[],
            made=made(told),
            footer="Every number is computed from results.csv, beside this page; what the run was "
            "told stands in run.json.",
        )
        text = [f"![{self.title}]({picture.name})", self.lead, _listed(self.terms)]
        text += [*map(as_text, tables), _listed(made(told))]
        text = [f"# {self.title}", *filter(None, text), ""]
        write_whole(out / "results.md", "\n\n".join(text))
        print_table(console, tables[1])
        for claim, verdict in claims:
            console.print(Text(f"- {claim.text}: {word(verdict)}. {verdict.found}."))
        if alarm:
            say(console, alarm)
        say(console, f"\nPicture: {picture}\nReport:  {out / 'report.html'}")
