"""A study: its training runs, its claims, and their report."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pandas as pd
from rich.console import Console

from experiments.lab import cache, folders
from experiments.lab.claims import RULE, Claim, Frame, Verdict, count, label_columns
from experiments.lab.console import print_table, say
from experiments.lab.files import Json, read_about, read_table
from experiments.lab.intervals import of_losses
from experiments.lab.pages import (
    HOLDS,
    NOT_MEASURED,
    NOT_SHOWN,
    REFUTED,
    REPORT,
    Page,
    Table,
    provenance,
)
from experiments.lab.pictures import shown
from experiments.lab.runs import RunGroup
from experiments.lab.settings import BadInput, refusals, restore
from experiments.lab.text import decimal, interval, short, words

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")  # the type of settings
R = TypeVar("R")  # the type that is read from the tables of a run
QUICK = (
    "The quick form: few seeds, short tasks and little training. Its verdicts are not those of the "
    "full study."
)
Judged = Sequence[tuple[Claim, Verdict]]


def read_results(out: Path, name: str, columns: Sequence[str] = ()) -> Frame:
    """Read the rows of a run.

    Raises:
        BadInput: there are none, or the table cannot be read; the error names the command.
    """
    command = f"python -m experiments run {name}"
    rows = read_table(out / "results.csv", columns, f"make it again with {command}")
    if rows.empty:
        raise BadInput(
            f"out: expected results.csv with rows in {out}, found none; make it with {command}"
        )
    return rows


def read_tables(
    out: Path, name: str, results: Sequence[str] = (), **others: Sequence[str]
) -> dict[str, Frame]:
    """Read the tables of a run by their names, each with columns that it must have.

    Raises:
        BadInput: `results` has no rows, or a table cannot be read; the error names the command.
    """
    hint = f"make it again with python -m experiments run {name}"
    first = {"results": read_results(out, name, results)}
    return first | {
        table: read_table(out / f"{table}.csv", columns, hint) for table, columns in others.items()
    }


@contextlib.contextmanager
def _all_columns(rows: object, out: Path, name: str) -> Iterator[None]:
    """Turn a KeyError into an error that names the missing column."""
    try:
        yield
    except KeyError as error:
        column = error.args[0] if error.args else None
        if not isinstance(rows, pd.DataFrame) or not isinstance(column, str) or column in rows:
            raise
        raise BadInput(
            f"{out / 'results.csv'}: expected a column {column!r}, got none; make it again with "
            f"python -m experiments run {name}"
        ) from None


def word(verdict: Verdict) -> str:
    """Return a verdict in words."""
    words = {True: HOLDS, False: REFUTED, None: NOT_SHOWN}
    return words[verdict.holds] if verdict.measured else NOT_MEASURED


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return how many claims have each verdict."""
    found = Counter(map(word, verdicts))
    total = found.total() - found[NOT_MEASURED]
    if not total:
        return "No claim was measured."
    claims = f"{total} claim{'s' * (total > 1)}"
    verb = HOLDS if found[HOLDS] == 1 else "hold"
    parts = [f"{found[name]} {name}" for name in (REFUTED, NOT_SHOWN, NOT_MEASURED) if found[name]]
    return f"{'; '.join([f'{found[HOLDS]} of {claims} {verb}', *parts])}."


def verdict_table(judged: Judged) -> Table:
    """Return each claim with its verdict and its numbers; a common source is named once."""
    sources = sorted({claim.source for claim, _ in judged})
    many = len(sources) > 1
    common = "" if many else "".join(f"Source: {source}. " for source in sources)
    return Table(
        title="Claims and verdicts",
        caption=f"{common}Verdicts are computed from the rows. {RULE} A seed is one run, with "
        "its own random numbers.",
        head=["claim", *["source"] * many, "verdict", "result"],
        rows=[[c.text, *[c.source] * many, word(v), v.result] for c, v in judged],
        texts=3 + many,
    )


def settings_table(rows: Frame) -> Table:
    """Return a table with a row for all runs that differ only in their seeds."""
    names = label_columns(rows)
    lines = []
    for labels, group in rows.groupby(names, sort=False):
        c = count(group)
        loss = _loss(group["loss"])
        time = short(1e3 * float(group["seconds_per_step"].median()))
        solved = [f"{c.k} of {c.n}", interval(c.k, c.n), c.when, str(c.steps)]
        lines.append(
            [*(decimal(v) if isinstance(v, float) else str(v) for v in labels), *solved, loss, time]
        )
    return Table(
        title="All settings",
        caption="Solved: k of n seeds, with the 95 % Wilson interval of the share. Median steps: "
        "by which half of the seeds had solved it; seeds that never did count as later. Loss: "
        "the geometric mean over seeds, on fresh samples, or how many diverged. Time: ms per "
        "step of one run, trained together with its group.",
        head=[
            *("cell" if name == "arm" else name for name in names[:-1]),
            *("rate", "solved", "interval", "median steps", "steps allowed", "loss", "ms per step"),
        ],
        rows=lines,
        texts=len(names) - 1,
    )


def _loss(losses: Frame) -> str:
    """Format the mean loss over seeds, or how many diverged."""
    diverged = int((~shown(losses)).sum())
    return f"{diverged} diverged" if diverged else short(of_losses(losses).mid)


def training_cost(groups: Sequence[RunGroup]) -> str:
    """Return how much is trained, in words."""
    runs, steps = sum(len(g.runs) for g in groups), sum(len(g.runs) * g.steps for g in groups)
    return f"{runs} runs, at most {steps:,} steps of training in all"


@dataclasses.dataclass(frozen=True, eq=False)
class Study(Generic[S, R]):
    """A study. Each file of `experiments/studies`, or your own file, exports one of these.

    Attributes:
        name: the name that users type; also that of its file.
        title: the title of the page.
        lead: the question, and how it was measured.
        settings: the full form; `run` has an option for every field.
        quick: a form of a few minutes, for `run --quick`.
        groups: settings -> the groups to measure.
        draw: (rows, path) -> draws the picture.
        claims: settings of the run -> the claims to judge.
        answers: rows -> the first sentences of the page.
        tables: rows -> further tables; the first is also printed.
        findings: rows -> the last sentences of the page.
        read: (folder, name) -> rows, for the functions above; `BadInput` if there are none.
        cost: groups -> their cost in words, printed before they run.
        terms: the meaning of words in the picture and the tables.
        about: further provenance for the page, such as {"optimiser": "AdamW"}.
        alt: the picture in words; the title if not given.
        caption: what to see first in the picture.
        files: the tables that `groups` measure.
    """

    name: str
    title: str
    lead: str
    settings: S
    quick: S
    groups: Callable[[S], Sequence[cache.Group]]
    draw: Callable[[R, Path], None]
    claims: Callable[[S], Sequence[Claim]] = lambda settings: ()
    answers: Callable[[R], list[str]] = lambda rows: []
    tables: Callable[[R], list[Table]] = lambda rows: [settings_table(rows)]
    findings: Callable[[R], list[str]] = lambda rows: []
    read: Callable[[Path, str], R] = read_results
    cost: Callable[[Sequence[Any]], str] = training_cost
    terms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    alt: str = ""
    caption: str = ""
    files: tuple[str, ...] = ("results",)

    def run(
        self, settings: S, out: Path, console: Console, command: str = "", quick: bool = False
    ) -> None:
        """Run the unfinished groups, then write the report.

        Args:
            settings: the settings.
            out: the folder of the results.
            console: the console for progress and the answer.
            command: the command that a user types for this; the page shows it.
            quick: whether this is the quick form, which the page says at the top.

        Raises:
            BadInput: a setting is out of range, or `out` holds something else.
            RunLocked: another run uses `out`.
        """
        with refusals(settings):
            groups = self.groups(settings)
            for group in groups:
                group.check()
        about = {"study": self.name, "command": command, "quick": quick}
        about |= {"settings": dataclasses.asdict(settings), **self.about}
        with folders.hold(out, folders.study(self.name)):
            say(console, f"{self.title}: {self.cost(groups)}.")
            cache.measure(groups, out, console, about)
            self.report(out, console)

    def report(self, out: Path, console: Console) -> None:
        """Draw the picture, write the page and print the answer, using only the files in `out`."""
        folders.check(out, folders.study(self.name), reads=True)
        rows, about = self.read(out, self.name), read_about(out)
        settings = restore(self.settings, about.get("settings", {}))
        with _all_columns(rows, out, self.name):
            judged = [(claim, claim.judge(rows)) for claim in self.claims(settings)]
            page = self._page(rows, judged, out, about)
            self.draw(rows, page.picture)
        page.write(out)
        print_table(console, self.tables(rows)[0])
        for sentence in _verdict_lines(judged) or page.headlines:
            say(console, f"- {sentence}")
        if page.alarm:
            say(console, page.alarm)
        say(console, f"\nPicture: {page.picture}\nReport:  {out / REPORT}")

    def _page(self, rows: R, judged: Judged, out: Path, about: Json) -> Page:
        verdicts = [verdict for _, verdict in judged]
        unfinished = about.get("unfinished", [])
        left = f"Not finished: {', '.join(unfinished)}. The same command continues." * bool(
            unfinished
        )
        files = words([f"{name}.csv" for name in self.files])
        return Page(
            title=self.title,
            lead=self.lead,
            picture=out / f"{self.name}.png",
            headlines=[*self.answers(rows), *([summary(verdicts)] if judged else [])],
            tables=[verdict_table(judged), *self.tables(rows)],
            provenance=provenance(about),
            footer=f"Every number is computed from {files}, next to this page; run.json has the "
            "settings of the run.",
            terms=self.terms,
            findings=self.findings(rows),
            alarm=" ".join(filter(None, [QUICK * bool(about.get("quick")), left])),
            alt=self.alt,
            caption=self.caption,
        )


def _verdict_lines(judged: Judged) -> list[str]:
    return [f"{claim.text}: {word(verdict)}. {verdict.result}." for claim, verdict in judged]
