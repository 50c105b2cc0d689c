"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
