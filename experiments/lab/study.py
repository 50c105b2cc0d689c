"""Studies: run what they list, count who solved it, judge what was claimed, draw and report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from experiments.lab import cache
from experiments.lab.claims import Claim, Frame, Verdict, count, places
from experiments.lab.console import print_table, say
from experiments.lab.files import write_whole
from experiments.lab.pages import VERDICTS, Table, as_text, made, write_page
from experiments.lab.settings import BadInput
from experiments.lab.text import decimal, interval, short


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
    names = places(rows)
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
        groups: settings -> what is measured in one go, such as `RunGroup`.
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
        cache.measure(groups, out, console, about)
        self.report(out, console)

    def report(self, out: Path, console: Console) -> None:
        """Draw the picture, write the page, print the verdicts; from the files in `out` alone."""
        rows, told = read(out, self.name), cache.about(out)
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
