"""What reports share: tables, and the page that opens offline."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from experiments.lab.files import write_whole
from experiments.lab.text import decimal

VERDICTS = {True: ("holds", "✓"), False: ("does not hold", "✗"), None: ("not measured", "?")}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with what its columns mean."""

    title: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    texts: int = 1  # columns that hold text, from the left; the others hold numbers


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """Lay out a Markdown table that also reads well as plain text.

    Args:
        head: the names of the columns.
        rows: their entries.
        texts: how many columns hold text, from the left; the others hold numbers.
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


def as_text(table: Table) -> str:
    """Write a table for a page of text."""
    return f"## {table.title}\n\n{table.caption}\n\n{markdown(table.head, table.rows, table.texts)}"


def made(run: dict[str, Any]) -> dict[str, str]:
    """Tell how a run was made, by name."""
    if not run:
        return {"run.json": "not there, so nothing is known of how this was made"}
    settings = {k: v for k, v in run.get("settings", {}).items() if not isinstance(v, dict)}
    machines = [
        ", ".join(f"{k} {v}" for k, v in machine.items()) for machine in run.get("made_with", [])
    ]
    told = {
        **{name: run.get(name, "") for name in ("command", "optimiser")},
        **{name.replace("_", " "): _tell(value) for name, value in settings.items()},
        "made with": "; ".join(machines),
    }
    return {name: text for name, text in told.items() if text}


def _tell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_tell, value))
    return decimal(value) if isinstance(value, float) else str(value)


def write_page(path: Path, picture: Path, **content: Any) -> None:
    """Write a page that holds everything it shows."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text())
    encoded = base64.b64encode(picture.read_bytes()).decode()
    with Image.open(picture) as image:
        inches = image.width / image.info["dpi"][0]
    fixed = {"text": Markup(' class="text"'), "marks": dict(VERDICTS.values())}
    write_whole(path, template.render(picture=encoded, inches=inches, **fixed, **content))
