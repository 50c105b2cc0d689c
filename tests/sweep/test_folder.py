"""The folder of a sweep: one run at a time, one configuration, and no damaged file is used."""

import functools
import os
import re
import shutil

import jax
import pytest

from seqcells import sweep
from seqcells._checkpoint import CheckpointError, RunLocked
from seqcells.sweep import _files, _store
from tests.support.sweeps import SPACE, SWEEP, Killed, compile_once, make, plain, run, space

pytestmark = pytest.mark.usefixtures("once")


def test_a_caller_learns_that_the_folder_is_its_own_before_anything_is_trained(tmp_path):
    called = []

    def on_start():
        with pytest.raises(RunLocked):
            run(tmp_path, on_start=lambda: called.append("locked"))
        called.append("held")

    def begin(**changed):
        run(tmp_path, on_start=on_start, on_segment=lambda _: called.append("trained"), **changed)

    begin()
    assert called[:2] == ["held", "trained"]
    called.clear()
    with pytest.raises(ValueError, match="steps"):
        begin(steps=40)
    assert called == []


def test_a_folder_is_used_by_one_run_at_a_time(tmp_path):
    def second(_):
        with pytest.raises(RunLocked):
            run(tmp_path)

    run(tmp_path, space(lr=[0.1], seeds=1), on_segment=second)


@pytest.mark.parametrize("write", [_files.write_whole, lambda at, text: _files.append(at, [text])])
def test_a_full_disk_is_named_by_the_file_and_leaves_no_part(write, tmp_path, monkeypatch):
    (file := tmp_path / "a.json").write_text("[]", encoding="utf-8")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "lines", full)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(str(file))):
        write(file, "{}")
    assert file.read_text("utf-8") == "[]"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 40}, "steps: was 30, is 40"),
        ({"segment": 5}, "segment: was 10, is 5"),
        ({"metric": "largest"}, "metric: was 'loss', is 'largest'"),
        ({"mode": "max"}, "mode: was 'min', is 'max'"),
        ({"batch": 8}, "batch: was 4, is 8"),
        ({"halving": None}, "halving: was {'every': 10, 'keep': 0.5}, is None"),
        ({"key": jax.random.key(1)}, r"key: was \[0, 0\], is \[0, 1\]"),
        ({"config": {"data": "b"}}, "config: was {'data': 'a'}, is {'data': 'b'}"),
        ({"config": {"data": "a", "n": None}}, "config: was .*None}"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(tmp_path, changed, message):
    config = {"data": "a"}
    store = run(tmp_path, space(lr=[0.1], seeds=1), config=config)
    with pytest.raises(ValueError, match=f"out: .*where {message}; use"):
        run(tmp_path, space(lr=[0.1], seeds=2), **({"config": config} | changed))
    assert run(tmp_path, space(lr=[0.1], seeds=1), config=config).rows == store.rows


def test_what_a_partial_of_make_holds_is_a_setting(tmp_path):
    few = space(lr=[0.1], seeds=1)
    result = sweep.run(functools.partial(make, 2), few, out=tmp_path, **SWEEP)
    assert sweep.run(functools.partial(make, 2), few, out=tmp_path, **SWEEP).rows == result.rows
    with pytest.raises(ValueError, match=r"out: .*where make: was 'partial.*2.*', is 'partial.*3"):
        sweep.run(functools.partial(make, 3), few, out=tmp_path, **SWEEP)


@pytest.mark.parametrize(("before", "now"), [(1, True), (1, 1.0), (0.0, -0.0)])
def test_a_setting_of_another_type_is_another(tmp_path, before, now):
    config = {"a": before, "b": float("nan")}
    _store.Folder(tmp_path, config).fix_width("0", 1, 1)
    with _store.Folder(tmp_path, config).locked():
        pass
    other = _store.Folder(tmp_path, config | {"a": now})
    with (
        pytest.raises(ValueError, match=f"where a: was {before}, is {now}; use"),
        other.locked(),
    ):
        pass


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with rows, history and a checkpoint."""
    out = tmp_path_factory.mktemp("begun")

    def kill(progress):
        if progress.finished and progress.step == 20:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        with pytest.raises(Killed):
            run(out, on_segment=kill)
    return out


DAMAGE = {  # file -> what becomes of it, and what the error says
    "trials.jsonl": [
        (lambda data: data[:9] + bytes(3) + data[12:], "line 1 of .*; put back .* trained again"),
        (lambda data: data + b'{"id": 1}\n', "line 5 of .* with 1 for id"),
        (lambda data: data.replace(b'"steps": ', b'"steps": "a", "x": ', 1), "'a' for steps"),
        (lambda data: data.replace(b'"seconds"', b'"second"', 1), "nothing for seconds"),
        (lambda data: data[: data.index(b"\n") - 5] + data[data.index(b"\n") :], "line 1 of"),
        (lambda data: b"[]\n" + data, "line 1 of"),
        (lambda data: data + b"\xff\xfe\n", "line 5 of"),
    ],
    "metrics.jsonl": [
        (lambda data: bytes(len(data) - 1) + b"\n", "line 1 of .*; put back .* lacks a point"),
        (lambda data: data.replace(b'"metrics": {', b'"metrics": null, "x": {', 1), "for metrics"),
        (lambda data: data.replace(b'"metrics": {', b'"metrics": {"x": "a", ', 1), "for metrics"),
    ],
    "sweep.json": [
        (lambda data: b"", "sweep.json with b''; put back a copy of the file, or take another"),
        (lambda data: data[:-5], "sweep.json with"),
        (lambda data: b'{"config": {}}', "nothing for widths"),
        (lambda data: b'{"config": {}, "widths": {"a": ["b"]}}', "other widths"),
    ],
}
CASES = [(file, *case) for file, cases in DAMAGE.items() for case in cases]


@pytest.mark.parametrize(("file", "change", "message"), CASES)
def test_a_damaged_file_is_named_with_its_line_and_stays_as_it_is(
    begun, tmp_path, file, change, message
):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    data = change((tmp_path / file).read_bytes())
    (tmp_path / file).write_bytes(data)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for read in (lambda: sweep.load(tmp_path, SPACE), lambda: run(tmp_path)):
        with pytest.raises(ValueError, match=f"out: expected a JSON object .*{message}"):
            read()
    locks = {path for path in before if path.name == "lock"}
    assert all(path.read_bytes() == before[path] for path in before.keys() - locks)


def test_what_the_error_advises_mends_a_damaged_folder(begun, tmp_path):
    whole = run(tmp_path / "whole")
    shutil.copytree(begun, out := tmp_path / "out")
    for manifest in out.rglob("manifest.json"):
        manifest.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"manifest.json .*remove the folder .* to start"):
        run(out)
    (folder,) = (path for path in (out / "checkpoints").iterdir() if any(path.rglob("*.json")))
    shutil.rmtree(folder)
    assert plain(run(out).rows) == plain(whole.rows)
    rows = (out / "trials.jsonl").read_text("utf-8").splitlines(keepends=True)
    (out / "trials.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    assert "unfinished" not in {row["status"] for row in run(out).rows}
