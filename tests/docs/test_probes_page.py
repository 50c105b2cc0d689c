"""The table of the page of probes says what the code says."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from seqcells import probes

PAGE = (Path(__file__).parents[2] / "docs" / "probes.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
TABLE = {name: [cell.strip() for cell in cells] for name, *cells in ROWS}
KINDS = {name: kind for name, kind in vars(probes).items() if dataclasses.is_dataclass(kind)}
OF_DATA = {"CharacterLM"}  # their numbers are those of a text


def number(formula, probe):
    """The value of `10 ln 8 / (T + 20)`."""
    formula = re.sub(r"ln (\d+)", r"ln(\1)", formula)
    formula = re.sub(r"(\d) ln", r"\1 * ln", formula)
    return eval(formula, {"ln": math.log, "T": getattr(probe, "length", None)})


def near(text, probe):
    """What the text says: exactly, or to the digits of a decimal."""
    digits = len(re.sub(r"^[0.]*", "", text).replace(".", "")) if "." in text else 12
    return pytest.approx(number(text, probe), rel=0.5 * 10 ** (1 - digits) if digits > 2 else 1e-12)


def test_every_probe_has_a_row():
    assert len(KINDS) > 9
    assert set(KINDS) == set(TABLE)


@pytest.mark.parametrize("name", sorted(set(KINDS) - OF_DATA))
def test_the_numbers_of_a_row_are_those_of_the_code(name):
    _, loss, solved, lengths, _ = TABLE[name]
    probe = KINDS[name]()
    assert probe.baseline == near(loss, probe)
    measure, sign, bound = re.fullmatch(r"(\w+) ([<>]) (.*)", solved).groups()
    assert sign == ("<" if measure == "loss" else ">")
    assert probe.success == (measure, near(bound, probe))
    assert tuple(int(length) for length in re.findall(r"\d+", lengths)) == probe.LENGTHS
