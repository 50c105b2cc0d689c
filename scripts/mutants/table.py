"""The table of mutants."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TABLES = Path(__file__).parent / "tables"


class Mutant(NamedTuple):
    """A small mistake."""

    area: str  # the name of its table
    file: str  # from the root of the repository
    old: str  # occurs once in the file
    new: str
    tests: tuple[str, ...]  # in pytest's form: "FILE", "FILE::TEST" or "FILE::TEST[CASE]"

    def change(self, source: str) -> str:
        """Return the source with the mistake in it."""
        return source.replace(self.old, self.new)


def read(folder: Path = TABLES) -> dict[str, Mutant]:
    """Return all mutants by their names.

    Raises:
        ValueError: two have the same name.
    """
    mutants: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        for name, row in tomllib.loads(path.read_text("utf-8")).items():
            if name in mutants:
                raise ValueError(f"{path}: expected a unique name, got {name} again")
            mutants[name] = Mutant(path.stem, row["file"], row["old"], row["new"], (*row["tests"],))
    return mutants


def why_wrong(mutant: Mutant, root: Path = ROOT) -> str | None:
    """Return why a mutant is outdated, or None: the code or a test may have changed."""
    source = (root / mutant.file).read_text("utf-8")
    if source.count(mutant.old) != 1:
        return f"{mutant.file} has the old text {source.count(mutant.old)} times"
    if mutant.old == mutant.new or not mutant.tests:
        return "it changes nothing, or names no test"
    if mutant.file.endswith(".py"):
        compile(mutant.change(source), mutant.file, "exec")
    for test in mutant.tests:
        path, _, function = test.partition("[")[0].partition("::")
        if not (root / path).is_file() or f"def {function}" not in (root / path).read_text("utf-8"):
            return f"{test} is not there"
    return None


def choose(mutants: dict[str, Mutant], names: list[str]) -> dict[str, Mutant]:
    """Return the mutants of these names or areas; all of them if there are no names.

    Raises:
        ValueError: no mutant or area has such a name.
    """
    known = {*mutants, *(mutant.area for mutant in mutants.values())}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ValueError(f"names: expected mutants or areas, got {', '.join(wrong)}")
    return {
        name: mutant
        for name, mutant in mutants.items()
        if not names or name in names or mutant.area in names
    }
