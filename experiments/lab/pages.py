"""Reports: tables, and a page of them as offline HTML and as Markdown."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image

from experiments.lab.files import Json, write_whole
from experiments.lab.text import decimal

HOLDS, REFUTED, NOT_SHOWN, NOT_MEASURED = "holds", "refuted", "not shown", "not measured"
MARKS = {HOLDS: "✓", REFUTED: "✗", NOT_SHOWN: "~", NOT_MEASURED: "?"}  # words for verdicts
REPORT = "report.html"  # the page's file in the folder of a run


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """Format a Markdown table that also reads well as plain text.

    Args:
        head: the names of the columns.
        rows: the entries.
        texts: the number of text columns, from the left; the others hold numbers.
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]

    def join(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def pad(line: list[str]) -> str:
        return join(
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )

    rule = join(
        "-" * width if i < texts else f"{'-' * (width - 1)}:" for i, width in enumerate(widths)
    )
    return "\n".join([pad(lines[0]), rule, *map(pad, lines[1:])])


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a caption that explains its columns."""

    title: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    texts: int = 1  # number of text columns, from the left; the others hold numbers

    @property
    def markdown(self) -> str:
        """The table as a section of Markdown."""
        text = markdown(self.head, self.rows, self.texts)
        return f"## {self.title}\n\n{self.caption}\n\n{text}"


@dataclasses.dataclass(frozen=True)
class Page:
    """The report of a run.

    Attributes:
        title: the title.
        lead: the question, and how it was measured.
        picture: a PNG file.
        headlines: the answers, one sentence each.
        tables: the tables; those without rows are left out.
        provenance: how the run was made, by name.
        footer: where the numbers are stored.
        terms: the meaning of words in the picture and the tables.
        findings: further sentences, after the tables.
        alarm: a warning about missing results, at the top.
        alt: the picture in words; the title if not given.
        caption: what to see first in the picture, which it stands below.
    """

    title: str
    lead: str
    picture: Path
    headlines: Sequence[str]
    tables: Sequence[Table]
    provenance: Mapping[str, str]
    footer: str
    terms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    findings: Sequence[str] = ()
    alarm: str = ""
    alt: str = ""
    caption: str = ""

    def write(self, out: Path) -> None:
        """Write `report.html`, which is self-contained, and `results.md`."""
        write_whole(out / REPORT, self.html)
        write_whole(out / "results.md", self.markdown)

    @property
    def html(self) -> str:
        """The page as HTML, with the picture embedded."""
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        template = environment.from_string(Path(__file__).with_name("page.html").read_text("utf-8"))
        with Image.open(self.picture) as image:
            inches = image.width / image.info["dpi"][0]
        return template.render(
            page=self,
            image=base64.b64encode(self.picture.read_bytes()).decode(),
            inches=inches,
            text=Markup(' class="text"'),
            marks=MARKS,
        )

    @property
    def markdown(self) -> str:
        """The page as Markdown, which refers to the picture."""
        parts = [
            f"# {self.title}",
            f"**{self.alarm}**" if self.alarm else "",
            f"![{self.alt or self.title}]({self.picture.name})",
            self.caption,
            self.lead,
            _listed(self.headlines),
            _listed(_named(self.terms)),
            *(table.markdown for table in self.tables if table.rows),
            _listed(self.findings),
            _listed(_named(self.provenance)),
        ]
        return "\n\n".join(filter(None, parts)) + "\n"


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _named(terms: Mapping[str, str]) -> list[str]:
    return [f"{name}: {text}" for name, text in terms.items()]


def provenance(about: Json) -> dict[str, str]:
    """Return how a run was made, by name.

    Args:
        about: the content of `run.json`, or {} if there is none.
    """
    if not about:
        return {"run.json": "missing, so it is not known how this was made"}
    settings, machines = about.get("settings", {}), about.get("made_with", [])
    texts = {
        **{name: str(about.get(name, "")) for name in ("command", "optimiser")},
        **{
            name.replace("_", " "): as_setting(value)
            for name, value in settings.items()
            if not isinstance(value, Mapping)
        },
        "made with": "; ".join(
            ", ".join(f"{name} {value}" for name, value in machine.items()) for machine in machines
        ),
    }
    return {name: text for name, text in texts.items() if text}


def as_setting(value: object) -> str:
    """Format a setting as it is typed."""
    if isinstance(value, list | tuple):
        return ", ".join(map(as_setting, value))
    return decimal(value) if isinstance(value, float) else str(value)
