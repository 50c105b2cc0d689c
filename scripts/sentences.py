"""Print random sentences of the project, to check that each reads well out of context.

    python scripts/sentences.py --seed 1 --count 40

They come from README, CONTRIBUTING, CHANGELOG and docs, from docstrings, and from error messages.
Rewrite each sentence that needs a second reading.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("seqcells", "experiments", "examples", "benchmarks")
FENCE = re.compile(r"^(```|:::).*?^\1\s*$", re.S | re.M)
LEAST = 5  # words


def prose() -> Iterator[tuple[str, str]]:
    """Yield (place, sentence) of every page."""
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for page in [*pages, *sorted((ROOT / "docs").rglob("*.md"))]:
        if "_build" in page.parts or page.parent.name == "gallery":
            continue
        text = FENCE.sub("\n", page.read_text("utf-8"))
        lines = [line for line in text.splitlines() if not re.match(r"\s*(#|\||!|---|    )", line)]
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", "\n".join(lines)):
            for sentence in sentences(paragraph):
                yield str(page.relative_to(ROOT)), sentence


def code() -> Iterator[tuple[str, str]]:
    """Yield (place, sentence) of every docstring and of every error message."""
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*.py")):
            place = str(file.relative_to(ROOT))
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                kinds = ast.Module, ast.ClassDef, ast.FunctionDef
                if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                    for paragraph in re.sub(r"(?m)^(    |>>>).*$", "", text).split("\n\n"):
                        yield from ((place, sentence) for sentence in sentences(paragraph))
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    for argument in node.exc.args[:1]:
                        yield from ((f"{place}, error", one) for one in [message(argument)] if one)


def message(node: ast.expr) -> str:
    """Return the text of a message, with the code of its values in braces."""
    if not isinstance(node, ast.Constant | ast.JoinedStr):
        return ""
    text = ast.unparse(node)
    return text.removeprefix("f").strip("'\"")


def sentences(paragraph: str) -> Iterator[str]:
    """Cut a paragraph into sentences."""
    text = " ".join(paragraph.split()).lstrip("- ")
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z`\[(])", text):
        if len(sentence.split()) >= LEAST:
            yield sentence


def main() -> None:
    """Print the random sentences of a seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice")
    parser.add_argument("--count", type=int, default=40, help="number of sentences")
    options = parser.parse_args()
    every = list(dict.fromkeys([*prose(), *code()]))
    print(f"{options.count} of {len(every)} sentences\n")
    for place, sentence in random.Random(options.seed).sample(every, options.count):
        print(f"{place}\n    {sentence}\n")


if __name__ == "__main__":
    main()
