"""Pages of help, as a terminal of 80 columns shows them."""

import itertools
import re

WIDTH = 80


def texts(page):
    """The lines of text of every option and argument, which begin beside it or below it."""
    found = {}
    for line in re.findall(r"^│ (.*?) *│$", page, re.MULTILINE):
        if named := re.match(r"(-\S+|[A-Z]{2,})\b.*?(?:  +(?=\S)|$)", line):
            lines = found[named[1]] = []
            line = " " * named.end() + line[named.end() :]
        if found and line.startswith("  ") and line.strip():
            lines.append(line)
    return found


def flaws(page):
    """What a reader complains of: no text but the default, and lines broken too late or early.

    The first line, with the usage, is tyro's own.
    """
    wide = [line for line in page.splitlines()[1:] if len(line) > WIDTH]
    bare, early = [], []
    for option, lines in texts(page).items():
        if not re.sub(r"\((default: .*|required)\)$", "", " ".join(lines)).strip():
            bare.append(option)
        for line, after in itertools.pairwise(lines):
            if len(line) + 1 + len(after.split()[0]) <= WIDTH - 4:
                early.append(line)
    return wide + bare + early
