"""What is not installed is said in one way, and `python -m seqcells` says what is here."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import experiments
import seqcells as sc
from seqcells import __main__ as program
from seqcells import _check
from seqcells.engines import ENGINES

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
SOURCES = [p for top in ("seqcells", "experiments", "benchmarks", "scripts")
           for p in sorted((ROOT / top).rglob("*.py"))]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "gone"), [("nothing_here", "nothing_here"), ("nothing.here", "nothing"),
                         ("json.nothing", "json.nothing")]
)  # fmt: skip
def test_a_module_that_is_missing_is_named_with_what_installs_it(module, gone):
    with pytest.raises(ModuleNotFoundError) as caught:
        _check.extra(module, "seqcells[sweep]")
    assert str(caught.value) == (
        f'{module}: expected this module, got none of this name; pip install "seqcells[sweep]"'
    )
    assert caught.value.name == gone


def test_what_an_installed_module_lacks_is_named_by_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "lacking_one.py").write_text("import nothing_here", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'nothing_here'$"):
        _check.extra("lacking_one", "seqcells[sweep]")
    assert _check.extra("json", "x") is importlib.import_module("json")


def test_every_hint_names_an_extra_that_there_is_and_survives_zsh():
    """A bracket that is not quoted is a pattern to zsh."""
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    text += "\n".join(page.read_text("utf-8") for page in pages)
    hints = re.findall(r"pip install (?:-e )?([^\s{]*\[[^\n`]*?\]\S*)", text)
    assert len(hints) > 8
    for hint in hints:
        assert re.match(r'"[^"]*\[[^"]*\]"', hint), hint
    named = re.findall(r'(?:seqcells|"\.)\[([\w,]+)\]', text)
    assert {name for some in named for name in some.split(",")} <= set(EXTRAS)
    installed = re.findall(r'_check\.extra\([^)]*?"seqcells\[(\w+)\]"\)', text)
    assert len(installed) >= 5


@pytest.mark.parametrize("as_program", [True, False])
@pytest.mark.parametrize("missing", ["optuna", "rich"])
def test_the_laboratory_without_its_extra_says_what_to_install(missing, as_program, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(sys, "argv", ["-m" if as_program else "pytest"])
    expected = rf'^{missing}: expected this module, .*; pip install -e "\.\[exp\]"$'
    with pytest.raises(SystemExit if as_program else ModuleNotFoundError, match=expected):
        importlib.reload(experiments)


def test_what_is_here_is_printed(capsys):
    assert program.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = {line[:18].strip(): line[18:] for line in lines}
    assert said["seqcells"] == sc.__version__
    assert said["device 0"].startswith("cpu")
    for engine in ENGINES:
        text = said[type(engine).__name__]
        able = [name for name, cell in program.CELLS.items() if can(engine, cell)]
        assert text.startswith(f"runs {able[0]}" if able else "cannot run here: ")
        assert all(name in text for name in able)
    assert sum("(chosen)" in text for text in said.values()) == 2
    assert program.main(["x"]) == 2
    assert "expected no arguments, got x" in capsys.readouterr().err


def can(engine, cell):
    try:
        return bool(sc.select_engine(cell, program.XS, engine=engine))
    except ValueError:
        return False


def test_a_machine_without_its_device_is_described(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no GPU")

    monkeypatch.setattr(program.jax, "devices", broken)
    assert program.main([]) == 0
    assert "none: no GPU" in capsys.readouterr().out
