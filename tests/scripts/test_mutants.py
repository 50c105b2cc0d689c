"""The table of mutants is of today's code, and its runner counts what tests say."""

import pytest

from scripts.mutants import __main__, table, trial
from scripts.mutants.table import Mutant, choose, read, why_wrong

MUTANTS = read()
AREAS = ("core", "cells", "engines", "layers", "measures", "online", "probes", "sweeps", "searches")


def test_every_mutant_is_a_change_of_todays_code_that_tests_of_today_should_see():
    wrong = {name: why_wrong(mutant) for name, mutant in MUTANTS.items()}
    assert {name: reason for name, reason in wrong.items() if reason} == {}
    assert {mutant.area for mutant in MUTANTS.values()} == {*AREAS, "checkpoints", "interop"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small library with a test, and mutants of it."""
    root = tmp_path / "root"
    (root / "tests").mkdir(parents=True)
    (root / "two.py").write_text("def two():\n    return 1 + 1  # two\n", encoding="utf-8")
    (root / "tests" / "test_two.py").write_text(
        "from two import two\n\n\ndef test_two():\n    assert two() == 2\n", encoding="utf-8"
    )
    monkeypatch.setattr(table, "ROOT", root)
    for module in (trial, __main__):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(trial.copy, "__defaults__", (root,))
    monkeypatch.setattr(trial.digest, "__defaults__", (root,))
    monkeypatch.setattr(__main__, "RESULTS", tmp_path / "build" / "mutants.json")
    tests = ("tests/test_two.py::test_two",)
    mutants = {
        "three": Mutant("numbers", "two.py", "1 + 1", "1 + 2", tests),
        "words": Mutant("words", "two.py", "# two", "# three", tests),
    }
    monkeypatch.setattr(__main__, "read", lambda: mutants)
    return root


def test_mutants_that_tests_see_are_killed_and_others_survive(tree, monkeypatch, capsys):
    calls = []

    def run(folder, tests, seconds=0):
        calls.append(tests)
        right = "1 + 1" in (folder / "two.py").read_text(
            "utf-8"
        ) and "assert two" in test.read_text("utf-8")
        return ("survived", "") if right else ("killed", tests[0])

    test = tree / "tests" / "test_two.py"
    for module in (trial, __main__):
        monkeypatch.setattr(module, "run", run)
    assert __main__.main([]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 mutants are killed (killed 1, survived 1)" in out
    assert "tests/test_two.py::test_two" in next(x for x in out.splitlines() if "three" in x)
    assert (tree / "two.py").read_text("utf-8") == "def two():\n    return 1 + 1  # two\n"
    assert len(calls) == 3  # without a mutant, and with each
    assert __main__.main(["numbers"]) == 0
    assert __main__.main([]) == 1
    assert len(calls) == 3  # nothing is tried again
    test.write_text("def test_two():\n    assert False\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected them to pass without a mutant, got killed"):
        __main__.main([])


def test_what_pytest_says_is_read(tree):
    (tree / "two.py").write_text("def two():\n    return 3\n", encoding="utf-8")
    assert trial.run(tree, ("tests/test_two.py",)) == ("killed", "tests/test_two.py::test_two")


def test_survivors_are_shown_to_the_whole_suite(tree, monkeypatch):
    said = {("tests/test_two.py::test_two",): ("survived", ""), (): ("killed", "another")}
    mutant = Mutant("words", "two.py", "# two", "# three", ("tests/test_two.py::test_two",))
    monkeypatch.setattr(trial, "run", lambda tree, tests: said[tests])
    assert trial.attempt(mutant, tree).status == "survived"
    assert trial.attempt(mutant, tree, all_tests=True)[1:3] == ("killed", "another")
    assert (tree / "two.py").read_text("utf-8") == "def two():\n    return 1 + 1  # two\n"


def test_a_mutant_that_is_no_longer_one_says_why(tree):
    right = Mutant("words", "two.py", "1 + 1", "1 + 2", ("tests/test_two.py",))
    assert why_wrong(right, tree) is None
    wrong = {
        "has the old text 0 times": right._replace(old="1 + 3"),
        "has the old text 2 times": right._replace(old="two"),
        "changes nothing": right._replace(new="1 + 1"),
        "is not there": right._replace(tests=("tests/test_two.py::test_three",)),
    }
    for reason, mutant in wrong.items():
        assert reason in why_wrong(mutant, tree)


def test_names_are_those_of_mutants_or_areas(tmp_path):
    assert set(choose(MUTANTS, ["interop", "lstm-bias-on-i"])) > {"lstm-bias-on-i"}
    with pytest.raises(ValueError, match="names: expected mutants or areas, got nothing"):
        choose(MUTANTS, ["nothing"])
    row = 'file = "a"\nold = "b"\nnew = "c"\ntests = []\n'
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(f"[same]\n{row}", encoding="utf-8")
    with pytest.raises(ValueError, match="expected a unique name, got same again"):
        read(tmp_path)
