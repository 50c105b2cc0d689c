"""Studies: what a run leaves behind, what a second run repeats, what bad input gets."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import _study
from experiments._report import short, wilson, words
from experiments.horizon import study
from experiments.horizon.numbers import Numbers
from experiments.horizon.report import findings

CELLS = ["tanh orthogonal", "GRU chrono"]
TINY = [
    *("--cells", *CELLS),
    *("--seeds", "1", "--lags", "2", "4", "--factors", "0.5", "2", "--factor-seeds", "1"),
    *("--hidden-size", "4", "--batch-size", "4", "--segment", "2", "--eval-size", "8"),
    *("--tanh.steps", "3", "--irnn.steps", "3", "--gru.steps", "3"),
]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m experiments` as a user does; it sets up devices, so in its own process."""
    line = [sys.executable, "-m", "experiments", *arguments]
    root = Path(__file__).parents[1]
    return subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "horizon"
    done = command("run", "horizon", "--out", str(out), *TINY)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_run_leaves_a_row_a_member_and_a_gradient_a_lag(finished):
    out, _ = finished
    results, gradients = pd.read_csv(out / "results.csv"), pd.read_csv(out / "gradients.csv")
    assert list(results) == study.COLUMNS["results"]
    assert list(gradients) == study.COLUMNS["gradients"]
    members = results.groupby(["task", "cell", "init"])["lag"].apply(sorted).to_dict()
    lags = {"recall": [2, 4], "rates": [4, 4], "adding": [4]}
    assert members == {(task, *cell.split()): lags[task] for task in lags for cell in CELLS}
    assert set(results["steps"]) == {3}
    assert (results["seconds"] > 0).all()
    reach = gradients.groupby(["cell", "init", "when"])["lag"].apply(list)
    assert len(reach) == 2 * len(CELLS)
    assert all(lags == [0, 1, 2, 3, 4] for lags in reach)
    assert np.isfinite(gradients["norm"]).all()


def test_the_page_holds_everything_and_the_findings_of_the_terminal(finished):
    out, printed = finished
    page = (out / "report.html").read_text()
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>]{0,30})""", page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://|@import|url\(", page)
    sentences = findings(Numbers.read(out))
    flat = " ".join(printed.split())
    assert all(sentence in page and sentence in flat for sentence in sentences)


def test_a_second_run_repeats_nothing_and_a_report_needs_the_tables_alone(finished):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    again = command("run", "horizon", "--out", str(out), *TINY)
    assert again.stdout.count("kept") == len(before) == 4
    assert before == {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    for name in ("horizon.png", "report.html"):
        (out / name).unlink()
    assert command("report", "horizon", "--out", str(out)).returncode == 0
    assert (out / "horizon.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nonsense"], 2, ["nonsense", "horizon"]),
        (["nonsense"], 2, ["nonsense", "run NAME"]),
        (["run", "horizon", "--seeds", "0"], 1, ["seeds", "at least 1", "0"]),
        (["run", "horizon", "--cells", "LSTM"], 1, ["cells", "GRU chrono", "LSTM"]),
        (["run", "horizon", "--lags", "0"], 1, ["lags", "at least 1", "0"]),
        (["run", "horizon", "--out", __file__], 1, ["out", Path(__file__).name]),
        (["report", "horizon", "--out", "/nowhere"], 1, ["out", "/nowhere", "run horizon"]),
    ],
)
def test_bad_input_is_named_before_any_training(arguments, code, words):
    done = command(*arguments)
    assert done.returncode == code
    assert all(word in " ".join(done.stderr.split()) for word in words), done.stderr
    assert not done.stdout


def test_without_arguments_the_studies_are_listed():
    done = command()
    assert done.returncode == 0
    assert "horizon" in done.stdout


class Fake:
    """A group of a study that counts how often it was measured."""

    steps = 2

    def __init__(self, name: str, error: BaseException | None = None) -> None:
        self.name, self.error, self.measured = name, error, 0

    def part(self, out: Path) -> _study.Part:
        return _study.Part(out / "parts", self.name, {"name": self.name})

    def measure(self, progress):
        self.measured += 1
        progress(1)
        if self.error is not None:
            raise self.error
        return {"results": [{"who": self.name}]}


def test_what_is_finished_outlives_an_interruption(tmp_path):
    first, second = Fake("first"), Fake("second", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        _study.measure([first, second], {"results": ["who"]}, tmp_path, Console(quiet=True))
    assert (tmp_path / "results.csv").read_text().split() == ["who", "first"]
    second.error = None
    _study.measure([first, second], {"results": ["who"]}, tmp_path, Console(quiet=True))
    assert (first.measured, second.measured) == (1, 2)
    assert (tmp_path / "results.csv").read_text().split() == ["who", "first", "second"]


def test_a_part_is_of_its_settings_and_whole(tmp_path):
    part = _study.Part(tmp_path, "part", {"steps": 1})
    part.save({"results": [{"a": 1}]})
    assert part.load() == {"results": [{"a": 1}]}
    assert _study.Part(tmp_path, "part", {"steps": 2}).load() is None
    part.path.write_text(part.path.read_text()[:-9])
    assert part.load() is None


TASKS = {"recall": 0.02, "rates": 0.2, "adding": 0.02}  # with a learning rate each


def rows(successes: dict[str, tuple[int, int, int]], decay: dict[str, float]):
    """Rows of a study: of 5 seeds, how many solve recall at lag 4, at another rate, and adding."""
    results = [
        {
            **{"who": who, "task": task, "lag": 4, "seed": seed, "steps": 10, "seconds": 0.01},
            **{"solved": seed < count, "loss": 0.1, "accuracy": 0.5, "learning_rate": rate},
        }
        for who, counts in successes.items()
        for (task, rate), count in zip(TASKS.items(), counts, strict=True)
        for seed in range(5)
    ]
    gradients = [
        {"who": who, "when": when, "lag": lag, "norm": 3 * rate**lag}
        for who, rate in decay.items()
        for when in ("initialisation", "after training")
        for lag in range(5)
    ]
    return Numbers(results, gradients)


def test_findings_are_computed_from_the_numbers():
    one = rows({"A": (5, 5, 5), "B": (1, 3, 4)}, {"A": 1.0, "B": 0.5})
    told = findings(one)
    assert "A in 5 of 5 (0.57 to 1.00) and B in 1 of 5" in told[0]
    assert "A 4 (learning rate 0.02) and B none (learning rate 0.02)" in told[1]
    assert "of 4: A at 0.02 and 0.2 of 0.02 and 0.2; B at 0.2 of 0.02 and 0.2." in told[2]
    assert "that keeps B from 4 steps" in told[3]
    assert "1 for A (no decay) and 0.062 for B (a factor e every 1.4 steps)" in told[4]
    assert "It flatters B:" in told[6]
    other = findings(rows({"A": (0, 0, 5), "B": (5, 2, 0)}, {"A": 0.5, "B": 1.0}))
    assert "B in 5 of 5 (0.57 to 1.00) and A in 0 of 5" in other[0]
    assert "A at none of 0.02 and 0.2; B at 0.02 of 0.02 and 0.2." in other[2]
    assert not any(sentence.startswith("So it is") for sentence in other)
    assert "It flatters A:" in other[5]
    assert "flatters" not in " ".join(findings(rows({"A": (5, 5, 5)}, {"A": 0.9})))


def test_wilson_and_words_and_short():
    assert [round(bound, 2) for k, n in ((5, 5), (20, 20)) for bound in wilson(k, n)] == [
        *(0.57, 1.0),
        *(0.84, 1.0),
    ]
    assert words(["a"]) == "a"
    assert words(["a", "b", "c"]) == "a, b and c"
    assert [short(x) for x in (0, 0.0123, 386.2, 3e-14)] == ["0", "0.012", "390", "3e-14"]
