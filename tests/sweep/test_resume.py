"""Laws of a sweep that is killed: the same bits, no trial lost or duplicated."""

import functools
import json
import os
import re
import shutil
import signal
from pathlib import Path

import jax
import pytest

from seqcells import sweep
from seqcells._checkpoint import CheckpointError, Checkpoints, RunLocked
from seqcells.sweep import _store
from tests.support.sweeps import compile_once, make, plain, space, write_plainly

SWEEP = {"steps": 30, "segment": 10, "batch": 4, "halving": sweep.Halving(10), "save_seconds": 0}
SPACE = space(boom=(-1, 15), lr=[0.1], seeds=3)  # two batches, and trials that end in NaN


@pytest.fixture(autouse=True)
def _once(monkeypatch):
    compile_once(monkeypatch)


def run(out, some=None, **changed):
    return sweep.run(make, some or SPACE, out=out, **(SWEEP | changed))


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def history(result):
    return sorted(map(str, result.history))


class Killed(BaseException):
    """The end of a process."""


class Instants:
    """Ends the process at moment `at`: before, during or after a change of the folder."""

    def __init__(self, monkeypatch, at=None):
        self.at, self.seen = at, 0
        for place, name in ((_store, "_append"), (_store, "write_whole")):
            monkeypatch.setattr(place, name, self.around(getattr(place, name)))
        for name in ("save", "delete"):
            monkeypatch.setattr(Checkpoints, name, self.around(getattr(Checkpoints, name)))

    def moment(self, then=lambda: None):
        self.seen += 1
        if self.seen == self.at:
            then()
            raise Killed

    def around(self, call):
        @functools.wraps(call)
        def cut(*args, **named):
            self.moment()
            if call.__name__ == "_append" and args[1]:
                self.moment(lambda: half_of(*args))
            call(*args, **named)
            self.moment()

        return cut


def half_of(path, rows, sync=False):
    text = _store._lines(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text[: len(text) * 2 // 3])


def test_killed_at_any_instant_it_ends_with_the_same_results(tmp_path, monkeypatch):
    write_plainly(monkeypatch)
    with monkeypatch.context() as patch:
        instants = Instants(patch)
        whole = run(tmp_path / "whole", steps=20)
    assert instants.seen > 30
    for at in range(1, instants.seen + 1):
        out = tmp_path / str(at)
        with monkeypatch.context() as patch:
            Instants(patch, at)
            with pytest.raises(Killed):
                run(out, steps=20)
        resumed = run(out, steps=20)
        assert plain(resumed.rows) == plain(whole.rows), at
        assert history(resumed) == history(whole), at
        assert len(lines(out / "trials.jsonl")) == len(whole.rows)
        assert len(lines(out / "metrics.jsonl")) == len(whole.history)


class Disk:
    """Notes what is on the disk, and looks at it when something begins to rely on it."""

    def __init__(self, monkeypatch, out):
        self.out, self.synced, self.relied = out, {}, []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda handle: self.sync(handle) or fsync(handle))
        monkeypatch.setattr(os, "replace", lambda *paths: self.named(*paths) or replace(*paths))
        for name, files in (("save", HISTORY), ("delete", HISTORY + ROWS)):
            call = getattr(Checkpoints, name)
            monkeypatch.setattr(Checkpoints, name, self.before(call, files))

    def sync(self, handle):
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.name in ROWS:
            self.rely(HISTORY)
        self.synced[path] = os.fstat(handle).st_size

    def named(self, part, path):
        assert self.synced[Path(part)] == Path(part).stat().st_size > 0
        self.relied.append(Path(path).name)

    def rely(self, names):
        for path in (self.out / name for name in names):
            if path.exists():
                assert self.synced.get(path, 0) == path.stat().st_size
        self.relied += names

    def before(self, call, names):
        def checked(*args, **named):
            self.rely(names)
            return call(*args, **named)

        return checked


HISTORY, ROWS = ["metrics.jsonl"], ["trials.jsonl"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names open files by /proc")
@pytest.mark.parametrize("save_seconds", [0, 1000])
def test_what_relies_on_a_file_is_written_after_it_is_on_the_disk(
    tmp_path, monkeypatch, save_seconds
):
    """A checkpoint on the history, a row on it too, and the end of a checkpoint on both."""
    write_plainly(monkeypatch)
    disk = Disk(monkeypatch, tmp_path)
    run(tmp_path, steps=20, save_seconds=save_seconds)
    assert set(disk.relied) == {"sweep.json", "results.csv", *HISTORY, *ROWS}


def test_it_resumes_from_its_checkpoint(tmp_path):
    """Only the segment that was not saved before the kill is trained again."""

    def stop_at(progress):
        if progress.step == 20:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, on_segment=stop_at)
    steps = []
    run(tmp_path, on_segment=lambda progress: steps.append((progress.finished, progress.step)))
    assert steps == [(0, 20), (0, 30), (4, 10), (4, 20)]


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


@pytest.mark.parametrize("write", [_store.write_whole, lambda at, text: _store._append(at, [text])])
def test_a_full_disk_is_named_by_the_file_and_leaves_no_part(write, tmp_path, monkeypatch):
    (file := tmp_path / "a.json").write_text("[]", encoding="utf-8")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_store, "_lines", full)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(str(file))):
        write(file, "{}")
    assert file.read_text("utf-8") == "[]"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_segment_and_saves(tmp_path, number):
    whole = run(tmp_path / "whole")
    before = signal.getsignal(number)

    def on_segment(progress):
        os.kill(os.getpid(), number)

    ends = SystemExit if number == signal.SIGTERM else KeyboardInterrupt
    with pytest.raises(ends) as caught:
        run(tmp_path / "out", on_segment=on_segment, save_seconds=1000)
    assert getattr(caught.value, "code", 130) == 128 + number
    assert signal.getsignal(number) == before
    table = (tmp_path / "out" / "results.csv").read_text("utf-8")
    assert table.count("unfinished") == len(whole.rows)
    steps = []
    resumed = run(tmp_path / "out", on_segment=lambda progress: steps.append(progress.step))
    assert steps[0] == 20
    assert plain(resumed.rows) == plain(whole.rows)


def test_a_finished_sweep_runs_nothing_and_a_larger_one_the_new_trials(tmp_path):
    first = run(tmp_path)

    def never(**_):
        raise AssertionError("was built again")

    again = sweep.run(never, SPACE, out=tmp_path, **SWEEP)
    assert str(again.rows) == str(first.rows)
    assert history(again) == history(first)
    more = run(tmp_path, space(boom=(-1, 15), lr=[0.1], seeds=4))
    assert str(more.rows[:3]) == str(first.rows[:3])
    assert len(lines(tmp_path / "trials.jsonl")) == 8
    fewer = run(tmp_path, space(boom=(15,), lr=[0.1], seeds=1))
    assert str(fewer.rows[0]) == str(more.rows[4])


def test_a_batch_whose_trials_are_no_longer_in_the_space_is_discarded(tmp_path):
    def killed(_):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, on_segment=killed)
    with pytest.raises(Killed):
        run(tmp_path, on_segment=lambda p: killed(p) if p.step == 20 else None)
    other = space(lr=[0.1], seeds=1)
    result = run(tmp_path, other)
    assert plain(result.rows) == plain(run(tmp_path / "other", other).rows)
    assert not list(tmp_path.glob("checkpoints/*/generation-*"))


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
    with pytest.raises(ValueError, match=f"out: .*where {message}; take"):
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
        pytest.raises(ValueError, match=f"where a: was {before}, is {now}; take"),
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
        with pytest.raises(ValueError, match=f"out: expected an object of JSON .*{message}"):
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


def test_a_bucket_that_has_grown_is_trained_as_wide_as_a_new_one(tmp_path):
    few, many = (
        {"some": space(lr=[0.1], seeds=n), "batch": "auto", "halving": None} for n in (1, 8)
    )
    first = run(tmp_path, **few).rows[0]
    widths = []
    result = run(tmp_path, **many, on_segment=lambda p: widths.append(p.alive))
    assert widths == [7] * 3
    assert plain(result.rows)[0] == plain([first])[0]

    def kill(progress):
        raise Killed

    again = tmp_path / "again"
    run(again, **few)
    with pytest.raises(Killed):
        run(again, **many, on_segment=kill)
    assert plain(run(again, **many).rows) == plain(result.rows)


def test_a_batch_in_training_ends_at_its_width_before_a_bucket_grows(tmp_path):
    few, many = (
        {"some": space(lr=[0.1], seeds=n), "batch": "auto", "halving": None} for n in (1, 8)
    )

    def kill(progress):
        if progress.step == 20:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, **few, on_segment=kill)
    seen = []
    run(tmp_path, **many, on_segment=lambda p: seen.append((p.alive, p.step)))
    assert seen == [(1, 20), (1, 30), (7, 10), (7, 20), (7, 30)]


def test_a_folder_is_used_by_one_run_at_a_time(tmp_path):
    def second(_):
        with pytest.raises(RunLocked):
            run(tmp_path)

    run(tmp_path, space(lr=[0.1], seeds=1), on_segment=second)
