"""Studies at large: the command line, what a run leaves behind, what a second run repeats."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tyro

from experiments import __main__ as cli
from experiments.lab import BadInput, GradientByLag, RunGroup, Study
from experiments.studies.horizon import ARMS, Budget, Settings
from experiments.studies.horizon.numbers import RESULTS, findings, headlines, read
from tests.support.studies import ALL

CELLS = ["GRU default", "GRU chrono"]  # they share their programs, so half is compiled
TINY = [
    *("--cells", *CELLS),
    *("--seeds", "1", "--lags", "2", "4", "--factors", "0.5", "--factor-seeds", "1"),
    *("--hidden-size", "4", "--batch-size", "4", "--segment", "2", "--eval-size", "8"),
    *("--gru.steps", "4"),
]


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """A test's process has its devices already."""
    monkeypatch.setattr(cli, "use_all_cores", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run as a user makes it: it sets up devices, so in its own process."""
    out = tmp_path_factory.mktemp("runs") / "[b] horizon [/b]"
    line = [sys.executable, "-m", "experiments", "run", "horizon", "--out", str(out), *TINY]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        line, cwd=root, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.slow
def test_a_run_leaves_a_row_a_member_and_a_gradient_a_lag(finished):
    out, _ = finished
    results, gradients = pd.read_csv(out / "results.csv"), pd.read_csv(out / "gradients.csv")
    assert tuple(results) == RESULTS
    assert tuple(gradients) == GradientByLag.columns
    members = results.groupby(["task", "arm"])["lag"].apply(sorted).to_dict()
    lags = {"recall": [2, 4], "rates": [4], "adding": [4]}
    assert members == {(task, cell): lags[task] for task in lags for cell in CELLS}
    assert set(results["steps"]) == {4}
    assert (results["seconds_per_step"] > 0).all()
    reach = gradients.groupby(["arm", "when"])["lag"].apply(list)
    assert len(reach) == 2 * len(CELLS)
    assert all(lags == [0, 1, 2, 3, 4] for lags in reach)
    assert (gradients["norm"] > 0).all()


@pytest.mark.slow
def test_the_page_holds_everything_and_the_terminal_three_sentences(finished):
    out, printed = finished
    page, flat = (out / "report.html").read_text("utf-8"), " ".join(printed.split())
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>]{0,30})""", page)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://|@import|url\(", page)
    numbers = read(out, "horizon")
    assert 1 <= len(headlines(numbers)) <= 3
    assert all(sentence in page and sentence in flat for sentence in headlines(numbers))
    assert all(sentence in page and sentence not in flat for sentence in findings(numbers))
    assert printed.rstrip().endswith(f"Report:  {out / 'report.html'}")
    for text in ("AdamW", "python -m experiments run horizon", "hidden size", "batch size", "jax"):
        assert text in page
    assert page.index("<img") < page.index(headlines(numbers)[0]) < page.index("<table")
    assert "rates" not in re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert "Not finished" not in page


@pytest.mark.slow
def test_a_second_run_repeats_nothing_and_a_report_needs_the_tables_alone(finished, capsys):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert cli.main(["run", "horizon", "--out", str(out), *TINY]) == 0
    assert capsys.readouterr().out.count("kept") == len(before) == 4
    assert before == {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    for name in ("horizon.png", "report.html", "run.json"):
        (out / name).unlink()
    assert cli.main(["report", "horizon", "--out", str(out)]) == 0
    assert (out / "horizon.png").read_bytes()[:4] == b"\x89PNG"
    assert "it is not known how this was made" in (out / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "horizn"], 2, ["study", "'horizn'", "Did you mean horizon?"]),
        (["run", "[/x]"], 2, ["study", "'[/x]'", "horizon"]),
        (["run"], 2, ["run: expected the name of a study: adding,", "horizon"]),
        (["reprot", "horizon"], 2, ["'reprot'", "Did you mean report?"]),
        (["horizon"], 2, ["Did you mean: python -m experiments run horizon"]),
        (["list", "horizon"], 2, ["list", "'horizon'"]),
        (["run", "horizon", "--seeds", "0"], 2, ["seeds", "at least 1", "got 0"]),
        (["run", "horizon", "--lags", "1"], 2, ["lags", "at least 2", "got 1"]),
        (["run", "horizon", "--factors", "3", "1"], 2, ["factors", "other than 1", "leave it"]),
        (["run", "horizon", "--gru.steps", "0"], 2, ["gru.steps", "at least 1", "got 0"]),
        (["run", "adding", "--lengths", "5", "5"], 2, ["lengths: ", "different", "5 twice"]),
        (["report", "adding", "--tensorboard"], 2, ["tensorboard: ", "the study adding"]),
        (["report", "/", "--out", "x"], 2, ["out: expected no other folder", "x"]),
        (["run", "horizon", "--out", __file__], 2, ["out", Path(__file__).name, "--out"]),
        (["run", "horizon", "--out", f"{__file__}/[/b]"], 2, ["out", "/[/b]"]),
        (["report", "horizon", "--out", "/nowhere/[/b]"], 2, ["out", "/[/b]", "run horizon"]),
    ],
)
def test_bad_input_is_named_before_any_training(arguments, code, words, capsys, monkeypatch):
    monkeypatch.setattr(RunGroup, "measure", lambda *_: pytest.fail("it trained"))
    assert cli.main(arguments) == code
    shown = capsys.readouterr()
    assert all(word in " ".join(shown.err.split()) for word in words), shown.err
    assert not shown.out
    assert "Traceback" not in shown.err


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seeds", value) for value in (0, 2.5, True, "5")),
        ("factor_seeds", 1.0),
        *(("lags", value) for value in ((), (1,), (10, 2.5), 10)),
        *(("factors", value) for value in ((), (0,), (-3,), (INF,), (NAN,), (1,), (3, 1.0))),
        *(("cells", value) for value in ((), ("LSTM",))),
        ("gru", 3),
    ],
)
def test_settings_are_checked_and_named(name, value):
    with pytest.raises(BadInput, match=rf"^{name}: expected .*, got .*; "):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [(rate, x) for rate in ("recall", "adding") for x in (0, NAN, INF, "1")]
    + [("steps", x) for x in (0, 1.5)],
)
@pytest.mark.parametrize("cell", ["tanh", "irnn", "gru"])
def test_budgets_are_checked_and_named(cell, name, value):
    budget = vars(getattr(Settings(), cell)) | {name: value}
    with pytest.raises(BadInput, match=rf"^{cell}\.{name}: expected .*, got .*; give --{cell}"):
        Settings(**{cell: Budget(**budget)})


@pytest.mark.parametrize("line", [[], ["list"], ["-h"], ["run", "--help"]])
def test_the_studies_and_the_commands_are_listed_in_80_columns(line, capsys):
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    assert set(ALL) < set(re.findall(r"^\w+", printed, re.MULTILINE))
    assert printed.count(cli.PROGRAM) == 12
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (["list", "-h"], ["list [-h]"]),
        (["report", "--help"], ["NAME", "--out", "--tensorboard"]),
        (["resume", "-h"], ["OUT"]),
        (["sweep", "-h"], ["delayed_recall", "--sweep.lr", "--static.cell"]),
    ],
)
def test_help_names_what_can_follow_and_exits_with_0(line, names, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(line)
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert "pyright" not in printed


def test_the_help_of_a_study_shows_choices_and_short_numbers(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "horizon", "--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "333" not in printed
    assert "a third" in printed
    assert printed.count("GRU chrono") == 2  # a choice, and in the default
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"seqcells \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("a bug")])
def test_a_bug_is_no_bad_input(error, monkeypatch):
    def run(*_):
        raise error

    monkeypatch.setattr(Study, "run", run)
    with pytest.raises(type(error), match="a bug"):
        cli.main(["run", "horizon"])


def test_an_interrupt_and_a_full_disk_are_one_line(monkeypatch, capsys):
    for error, code in ((KeyboardInterrupt(), 130), (OSError(28, "No space left", "a.csv"), 1)):

        def run(*_, error=error):
            raise error

        monkeypatch.setattr(Study, "run", run)
        assert cli.main(["run", "horizon"]) == code
    printed = capsys.readouterr().err
    assert "repeats the interrupted group" in printed
    assert "a.csv" in printed


def test_the_choices_of_the_help_are_the_cells_that_there_are():
    names = list(ARMS)
    assert list(Settings().cells) == names
    assert tyro.cli(Settings, args=["--cells", *names]).cells == tuple(names)


@pytest.mark.slow
def test_a_study_outside_of_the_repository_runs_by_its_path_once(tmp_path, capsys, monkeypatch):
    """The one that docs/studies.md shows, which imports from `experiments.lab` alone."""
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    assert re.findall(r"\w+ experiments.*", code) == ["from experiments import lab"]
    monkeypatch.chdir(tmp_path)
    Path("match.py").write_text(code, encoding="utf-8")
    line = ["run", "./match.py", "--quick", "--seeds", "1", "--length", "5", "--steps", "2"]
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    assert "Most of the slow GRUs learn it in 2 steps: not shown." in printed
    assert len(pd.read_csv("runs/match/results.csv")) == 2
    monkeypatch.setattr(RunGroup, "measure", lambda *_: pytest.fail("it trained again"))
    assert cli.main(line) == 0
    assert capsys.readouterr().out.count("kept") == 1  # one group of two runs
    Path("runs/match/report.html").unlink()
    assert cli.main(["report", "match.py"]) == 0
    assert "GRU chrono" in Path("runs/match/report.html").read_text("utf-8")
    assert "GRU chrono" in capsys.readouterr().out
