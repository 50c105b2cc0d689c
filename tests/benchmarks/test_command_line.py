"""The command line: benchmarks are found, run group by group, and say what is wrong."""

import dataclasses
import re

import pytest

from benchmarks import __main__ as cli
from benchmarks import suites
from benchmarks.harness.benchmark import Benchmark, find_commands
from experiments import lab
from tests.benchmarks.test_peers import ABOUT
from tests.support.help_pages import flaws, texts

COMMANDS = find_commands(suites)
LARGE = {  # these are not run as they are, and why
    "configurations": "one group takes minutes: tests/benchmarks/test_suites.py",
    "gpu": "it needs a GPU: tests/benchmarks/test_gpu.py",
    "plot": "it measures nothing",
    "scaling": "its least size has no group: tests/benchmarks/test_suites.py",
}

BENCHMARK = '''
import contextlib, dataclasses, time
from pathlib import Path
from benchmarks.harness import machine, pages
from benchmarks.harness.benchmark import BaseSettings, Benchmark, Group

@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(BaseSettings):
    """Measure nothing."""

    names: tuple[str, ...] = ("a",)
    ms: float = 1.0
    late: bool = False

    @contextlib.contextmanager
    def session(self):
        yield time.monotonic() + (-1 if self.late else 60)

    def where(self):
        return "here"

def measure(name, ms):
    if ms > 100:
        raise KeyboardInterrupt
    return [{"group": name, "contestant": "c", "ms": ms}]

def groups(settings):
    for name in settings.names:
        yield Group(name, lambda report, name=name: measure(name, settings.ms))

def page(rows):
    table = pages.grid([[row] for row in rows], pages.columns("group"), ["c"], pages.number("ms"))
    return pages.page("Nothing", "text", rows, [table])

BENCHMARK = Benchmark(
    name="nothing", settings=Settings, keys=["group"], columns=["group", "contestant", "ms"],
    groups=groups, page=page,
)
'''


@pytest.fixture
def nothing(tmp_path, monkeypatch, capsys):
    """Run a benchmark that is one file in the folder of benchmarks."""
    (folder := tmp_path / "suites").mkdir()
    (folder / "nothing.py").write_text(BENCHMARK, encoding="utf-8")
    monkeypatch.setattr(suites, "__path__", [str(folder)])
    out = tmp_path / "out"

    def run(*arguments):
        code = cli.main(["nothing", "--out", str(out), *arguments])
        return code, capsys.readouterr(), out / "nothing-here.csv"

    return run


def test_one_file_is_a_benchmark_and_a_run_replaces_the_groups_it_measured(nothing):
    code, shown, _ = nothing("--names", "a", "b")
    assert code == 0
    assert "group 1 of 2" not in shown.err
    code, shown, table = nothing("--names", "b", "d", "--ms", "2")
    assert code == 0
    lines = [line.split(",")[:3] for line in table.read_text("utf-8").splitlines()]
    assert lines == [
        ["group", "contestant", "ms"],
        *(["a", "c", "1"], ["b", "c", "2"], ["d", "c", "2"]),
    ]
    page = table.with_suffix(".md").read_text("utf-8")
    assert page.startswith("# Nothing\n\ntext\n\n- machine ")
    assert page.count("| 2.00 |") == 2
    assert f"Tables: {table}, {table.with_suffix('.md')}" in shown.out
    assert "1.00" not in shown.out  # of what was measured before


def test_no_group_starts_when_time_is_up(nothing):
    code, shown, table = nothing("--names", "a", "b", "--late")
    assert code == 0
    assert "Time is up: 2 of 2 are left." in shown.out
    assert not table.exists()


def test_an_interrupted_run_keeps_what_is_finished(nothing):
    nothing("--names", "a")
    code, shown, table = nothing("--names", "b", "--ms", "1000")
    assert code == 130
    assert "Stopped. Finished groups are in the tables." in shown.err
    assert len(table.read_text("utf-8").splitlines()) == 2


def test_settings_of_a_benchmark_are_checked_before_its_session(nothing):
    for arguments, message in (
        (["--names"], "names: expected one or more"),
        (["--seconds", "0"], "got 0"),
    ):
        code, shown, table = nothing(*arguments)
        assert code == 2
        assert message in shown.err
        assert not table.parent.exists()


@pytest.mark.parametrize("line", [[], ["-h"]])
def test_help_lists_every_benchmark(line, capsys):
    assert cli.main(line) == 0
    shown = capsys.readouterr().out
    assert set(COMMANDS) < set(re.findall(r"^\w+", shown, re.MULTILINE))
    assert {
        "configurations",
        "dispatch",
        "flags",
        "gpu",
        "options",
        "peers",
        "plot",
        "scaling",
        "schedule",
        "sweep",
    } <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_benchmark_has_a_text(name, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "-h"])
    page = capfd.readouterr().out
    assert "--out" in texts(page)
    assert not flaws(page)


def tiny(settings):
    """Return settings of one small group: the first text of several, the least of all numbers."""
    values = {"seconds": 1e-3}
    for field in dataclasses.fields(settings):
        least, several = field.metadata.get("least", 1), isinstance(field.default, tuple)
        if several and field.default:
            number = isinstance(field.default[0], int)
            values[field.name] = (least,) if number else field.default[:1]
        elif type(field.default) is int:
            values[field.name] = least
    return settings(**values)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(LARGE)))
def test_a_group_of_a_benchmark_has_its_columns_and_a_page(name):
    one = COMMANDS[name]
    rows = next(iter(one.groups(tiny(one.settings)))).measure(lambda _: None)
    assert rows
    for row in rows:
        assert set(one.keys) <= set(row) <= set(one.columns)
    page = one.page([row | ABOUT for row in rows])
    assert page.startswith("# ")
    assert all(str(row["contestant"]) in page for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["peer"], ["benchmark: expected", "'peer'", "Did you mean peers?"]),
        (["peers", "--shape", "2,5,3"], ["shape: expected B,T,I,H", "'2,5,3'"]),
        (["peers", "--shape", "2,5,3,0"], ["shape: expected B,T,I,H", "'2,5,3,0'"]),
        (["peers", "--seconds", "0"], ["seconds: expected", "got 0"]),
        (["peers", "--cores", "0"], ["cores: expected", "at least 1, got 0"]),
        (["peers", "--cores", "99999"], ["cores: expected at most", "got 99999"]),
        (["peers", "--cells"], ["cells: expected one or more"]),
        (["sweep", "--members", "3", "--devices", "2"], ["members: expected multiples of the 2"]),
        (["sweep", "--hidden-size", "0"], ["hidden_size: expected", "got 0"]),
        (["configurations", "--steps", "0"], ["steps: expected", "got 0"]),
        (["scaling", "--most", "3"], ["most: expected", "got 3"]),
        (["flags", "--what"], ["what: expected one or more"]),
        (["gpu", "--minutes", "0"], ["minutes: expected", "got 0"]),
        (["plot", "--results", "/nowhere"], ["results: expected peers-cpu-1core.csv in /nowhere"]),
    ],
)
def test_bad_input_is_named_before_anything_is_measured(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(Benchmark, "measure", lambda *_: pytest.fail("it measured"))
    before = lab.cores()
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert all(word in shown.err for word in words), shown.err
    assert lab.cores() == before
    assert not list(tmp_path.iterdir())
