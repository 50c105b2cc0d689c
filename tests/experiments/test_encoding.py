"""Files are UTF-8 whatever the locale, and a terminal that lacks a character shows another."""

import ast
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.lab import exit_code

ROOT = Path(__file__).parents[2]
TOPS = ("seqcells", "experiments", "benchmarks", "scripts", "tests", "docs")
FILES = [ROOT / "noxfile.py"]
FILES += [path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]
WORDS = re.compile(r"open|(read|write)_text|\btext\b")  # in every file that does so
PLACE = {"read_text": 0, "write_text": 1}  # of the argument that names the encoding


def text_without_encoding(tree):
    """Yield the lines of calls that read or write text in the encoding of the locale."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {word.arg: word.value for word in node.keywords}
        if name in PLACE and len(node.args) <= PLACE[name] and "encoding" not in given:
            yield node.lineno
        opens = name in ("open", "fdopen") and ast.unparse(node.func) not in (
            "os.open",
            "Image.open",
        )
        modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
        if opens and not any("b" in str(mode) for mode in modes) and "encoding" not in given:
            yield node.lineno
        if "text" in given and name in ("run", "Popen", "check_output"):
            yield node.lineno


def test_every_file_names_its_encoding():
    texts = {path: path.read_text("utf-8") for path in FILES}
    trees = {path: ast.parse(text) for path, text in texts.items() if WORDS.search(text)}
    found = {str(path): list(text_without_encoding(tree)) for path, tree in trees.items()}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_rule_sees_what_it_is_to_see():
    code = """
Path("a").read_text()
Path("a").read_text("utf-8")
Path("a").write_text(x)
Path("a").write_text(x, encoding="utf-8")
open("a")
open("a", "rb")
p.open("w", encoding="utf-8")
p.open("a")
subprocess.run(x, text=True)
"""
    assert list(text_without_encoding(ast.parse(code))) == [2, 4, 6, 9, 10]


WRITE = """
import pathlib, sys
from experiments.lab import Page, Table, cache, exit_code, files, say
from PIL import Image
from rich.console import Console
out = pathlib.Path(sys.argv[1])
Image.new("RGB", (8, 8)).save(out / "p.png", dpi=(100, 100))
table = Table("t", "c", ["claim", "verdict"], [["\\u03c7 \\u2265 1", "holds"]], 2)
Page("t", "l", out / "p.png", ["h"], [table], {}, "f").write(out)
files.write_about(out, {"command": "\\u4f60"})
assert files.read_about(out) == {"command": "\\u4f60"}
assert exit_code(lambda: say(Console(), "\\u4f60"), "") == 0
"""


@pytest.mark.slow
def test_a_page_is_written_under_a_locale_of_ascii(tmp_path):
    env = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-c", WRITE, str(tmp_path)]
    done = subprocess.run(line, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"?\n"), done.stderr
    assert "χ ≥ 1" in (tmp_path / "report.html").read_text("utf-8")
    assert "χ ≥ 1" in (tmp_path / "results.md").read_text("utf-8")


def test_a_terminal_that_lacks_a_character_shows_another(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="cp1252"))

    def fails():
        raise OSError(2, "nothing here", "你.csv")

    assert exit_code(fails, "") == 1
    sys.stderr.flush()
    assert raw.getvalue() == b"[Errno 2] nothing here: '?.csv'\n"
