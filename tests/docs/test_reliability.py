"""The table of docs/reliability.md is whole and true, and two laws of the library as a whole."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import seqcells as sc
from seqcells import sweep

ROOT = Path(__file__).parents[2]


def table():
    """Rows of the page: number, scenario, what is required, command, tried, passed."""
    lines = (ROOT / "docs" / "reliability.md").read_text("utf-8").splitlines()
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    rows = [row for row in cells if len(row) == 6 and row[0].isdigit()]
    return [(int(row[0]), row[3].strip("`"), row[4], row[5]) for row in rows]


ROWS = table()
TESTS = [row for row in ROWS if row[1].startswith("pytest")]


def parts(command):
    """The files of a pytest command, and the expression of its -k, or nothing."""
    words = shlex.split(command)[1:]
    files = [word for word in words if word.endswith(".py")]
    return files, words[words.index("-k") + 1] if "-k" in words else ""


def test_every_row_is_there_in_order():
    numbers = [number for number, *_ in ROWS]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 28))


@pytest.mark.parametrize(("number", "command", "tried", "passed"), ROWS)
def test_a_row_has_a_command_that_is_there_and_nothing_was_lost(number, command, tried, passed):
    assert int(tried.replace(",", "")) > 0
    assert passed == tried
    if command.startswith("pytest"):
        files, expression = parts(command)
        text = "".join((ROOT / file).read_text("utf-8") for file in files).replace(" ", "_")
        words = set(re.findall(r"\w+", expression)) - {"and", "or", "not"}
        assert [word for word in words if word not in text] == []
    else:
        python, option, package, name, *_ = shlex.split(command)
        assert (python, option, package) == ("python", "-m", "scripts.chaos")
        text = "".join(
            path.read_text("utf-8") for path in (ROOT / "scripts" / "chaos").glob("*.py")
        )
        assert re.search(rf'^def {name}\(.*\n    """Row {number}: ', text, re.M)


@pytest.mark.slow
def test_a_row_tries_as_many_cases_as_it_says():
    files = sorted({file for _, command, *_ in TESTS for file in parts(command)[0]})
    run = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *files]
    done = subprocess.run(run, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    items = [line for line in done.stdout.splitlines() if "::" in line]
    found = {}
    for number, command, *_ in TESTS:
        chosen, expression = parts(command)
        mine = [item for item in items if item.split("::")[0] in chosen]
        found[number] = len([item for item in mine if matches(expression, item)])
    assert found == {number: int(tried) for number, _, tried, _ in TESTS}


def matches(expression, item):
    """Whether an expression of -k chooses a test."""
    name = item.removeprefix("tests/").lower()
    term = lambda word: word[0] if word[0] in ("and", "or", "not") else str(word[0] in name)  # noqa: E731
    return not expression or eval(re.sub(r"\w+", term, expression))


def test_what_asks_for_terabytes_is_refused_before_it_runs():
    def make():
        def segment(state, hparams, n):
            return state + 1, {"loss": state[0, 0] + jnp.zeros(n)}

        return sweep.Task(
            lambda hparams, key: hparams["lr"] * jnp.ones((1 << 20, 1 << 20)), segment
        )

    with pytest.raises(ValueError, match=r"batch: .* needs [\d.]+e\+03 GB; make the task smaller"):
        sweep.run(make, sweep.Space(lr=[0.1, 0.2]), 10, segment=10)


LAUNCHER = "seqcells/distributed/__main__.py"  # runs the script that it is given, as python does
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "code"}
CALLS = {"eval", "exec", "compile", "__import__"}
READS = {"load", "fromfile", "loadtxt", "genfromtxt"}  # of NumPy: what it reads may be a pickle


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(Path(sc.__file__).parent.rglob("*.py")) if not p.match(LAUNCHER)],
    ids=lambda p: p.stem,
)
def test_no_module_reads_what_may_be_code(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {name.split(".")[0] for name in names} & FORBIDDEN
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CALLS
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            assert (owner, node.func.attr) not in {("np", read) for read in READS}
            assert (owner, node.func.attr) != ("jnp", "load")
