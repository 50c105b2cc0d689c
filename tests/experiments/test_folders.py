"""A folder holds one thing, one process at a time writes to it, and a refusal leaves no trace."""

import json

import pytest

from benchmarks.__main__ import main as benchmarks
from benchmarks.harness import machine
from experiments.__main__ import main as experiments
from experiments.lab import RunGroup, folders
from seqcells._checkpoint import RunLocked
from seqcells.sweep import _bucket, _run

STUDY = ["run", "chrono", "--lengths", "20", "--seeds", "1"]
SMALL = ["--static.hidden-size", "2", "--static.cell", "tanh", "--seeds", "1"]
SWEEP = ["sweep", "copy", *SMALL, "--steps", "4", "--segment", "2"]
BENCHMARK = ["flags", "--shapes", "S1", "--cells", "GRU"]
COMMANDS = {
    "study chrono": (experiments, STUDY),
    "sweep of copy": (experiments, SWEEP),
    folders.BENCHMARKS: (benchmarks, BENCHMARK),
}
EMPTY = {"config": {}, "widths": {}}
FILES = {
    "study chrono": {"run.json": {"study": "chrono", "unfinished": []}, "results.csv": ""},
    "study guide": {"run.json": {"study": "guide", "unfinished": []}, "results.csv": ""},
    "study": {"run.json": {"unfinished": [], "settings": {}}},  # of an older version
    "sweep of copy": {"run.json": {"probe": "copy", "settings": {}, "command": "x"}},
    "sweep of parity": {
        "run.json": {"probe": "parity"},
        "sweep.json": {"config": {}, "widths": {}},
    },
    "sweep": {"sweep.json": {"config": {"steps": 7}, "widths": {}}},
    folders.BENCHMARKS: {"flags-cpu-1core.csv": "a,b", "flags-cpu-1core.md": "# x"},
    folders.CHAOS: {"row-1.jsonl": {"passed": True}},
    folders.OTHER: {"thesis.tex": "important", "results.csv": "mine"},
    "damaged": {"run.json": "{", "results.csv": ""},
}


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch):
    monkeypatch.setattr("experiments.__main__.use_all_cores", lambda *_: None)
    monkeypatch.setattr(machine, "prepare", lambda *_: None)
    monkeypatch.setattr(RunGroup, "measure", lambda *_: pytest.fail("it trained"))
    monkeypatch.setattr(_bucket.Bucket, "_build", lambda *_: pytest.fail("it trained"))
    monkeypatch.setattr("benchmarks.suites.flags.measure", lambda *_: pytest.fail("it measured"))


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def refused(command, out, capsys):
    """Run a command that must be refused: one line, the code 2, and all files as they were."""
    main, arguments = command
    before = snapshot(out) if out.exists() else None
    assert main([*arguments, "--out", str(out)]) == 2
    assert (snapshot(out) if out.exists() else None) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_another_kind_is_refused_and_left_as_it_is(command, kind, tmp_path, capsys):
    write(tmp_path, FILES[kind])
    if kind in (command, command.split()[0]):
        folders.check(tmp_path, command)
        return
    line = refused(COMMANDS[command], tmp_path, capsys)
    assert line.startswith("out: expected a new folder, or one that holds the")
    assert str(tmp_path) in line
    assert kind in line or kind == "damaged"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_another_process_holds_is_refused_and_left_as_it_is(
    command, tmp_path, capsys
):
    write(tmp_path, FILES[command])
    with folders.hold(tmp_path, command):
        assert "pid" in refused(COMMANDS[command], tmp_path, capsys)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((experiments, [*SWEEP, "--segment", "3"]), ["steps: expected a multiple of segment=3"]),
        ((experiments, [*SWEEP, "--batch", "0"]), ["--batch", "expected", "got 0"]),
        ((experiments, [*SWEEP, "--halve-every", "3"]), ["halving.every", "--halve-every"]),
        ((experiments, [*SWEEP, "--static.length", "0"]), ["static.length"]),
        ((experiments, [*SWEEP, "--sweep.lr", "-1"]), ["sweep.learning_rate"]),
        ((experiments, ["run", "chrono", "--lengths", "5"]), ["--lengths: length", "got 5"]),
        ((experiments, ["run", "guide", "--lags", "1"]), ["--lags: ", "at least 2", "got 1"]),
        ((experiments, ["run", "mean_field", "--width", "0"]), ["width", "got 0"]),
        ((benchmarks, ["flags", "--seconds", "0"]), ["seconds: expected"]),
    ],
)
def test_what_is_refused_makes_no_folder(command, words, tmp_path, capsys):
    line = refused(command, tmp_path / "new", capsys)
    assert all(word in line for word in words), line


def test_another_configuration_is_refused_before_anything_is_written(tmp_path, capsys):
    settings = {"steps": 7, "metric": "loss", "mode": "min"}
    write(tmp_path, FILES["sweep of copy"] | {"sweep.json": {"config": settings, "widths": {}}})
    assert "steps: was 7, is 4" in refused((experiments, SWEEP), tmp_path, capsys)


def test_a_study_and_a_sweep_of_one_name_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = []
    monkeypatch.setattr("experiments.lab.study.Study.run", lambda *a: began.append(a[2]))
    monkeypatch.setattr("experiments.sweep.command.run", lambda *a: began.append(a[2]))
    monkeypatch.setattr("experiments.sweep.report.report_finished", lambda *a: None)
    for what in ("run", "sweep"):
        assert experiments([what, "selective_copy"]) == 0
    assert list(map(str, began)) == ["runs/selective_copy", "runs/sweep-selective_copy"]


def test_what_made_a_sweep_is_kept_when_it_is_resumed(tmp_path, capsys, monkeypatch):
    elsewhere = {"machine": "elsewhere"}
    about = {"probe": "copy", "settings": {}, "command": "x", "made_with": [elsewhere]}
    write(tmp_path, {"run.json": about})
    monkeypatch.setattr(_run, "run_here", lambda _: None)
    for _ in range(2):
        experiments([*SWEEP, "--out", str(tmp_path)])
        made = json.loads((tmp_path / "run.json").read_text("utf-8"))["made_with"]
        assert (made[0], len(made)) == (elsewhere, 2)


def test_the_report_of_a_folder_of_another_kind_is_refused(tmp_path, capsys):
    write(tmp_path, FILES["sweep of copy"])
    assert "out: expected" in refused((experiments, ["report", "chrono"]), tmp_path, capsys)
    for verb in ("report", "resume", "status"):
        write(tmp_path, FILES["study chrono"])
        assert experiments([verb, str(tmp_path)]) == 2
        assert "expected the folder of a sweep" in capsys.readouterr().err


def test_one_process_at_a_time_writes(tmp_path):
    with folders.hold(tmp_path, "study chrono"), pytest.raises(RunLocked, match="pid"):
        folders.hold(tmp_path, "study chrono").__enter__()
