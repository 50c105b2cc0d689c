"""A sweep that is killed and resumed: the same bits, no trial lost or duplicated."""

import functools
import json
import os
import shutil
import signal
import types
from pathlib import Path

import pytest

from seqcells import sweep
from seqcells._checkpoint import Checkpoints
from seqcells.sweep import _driver, _files, _log, _part, _store
from tests.support.sweeps import (
    POPULATION,
    SPACE,
    SWEEP,
    Killed,
    history,
    plain,
    run,
    space,
    write_plainly,
)

pytestmark = pytest.mark.usefixtures("once")


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Instants:
    """Ends the process at moment `at`: before, during or after a change of the folder."""

    def __init__(self, monkeypatch, at=None):
        self.at, self.seen = at, 0
        for place in (_part, _store):
            monkeypatch.setattr(place, "append", self.around(_files.append))
        monkeypatch.setattr(_log, "LEAST", 0)
        for place in (_part, _store, _driver, _log):
            monkeypatch.setattr(place, "write_whole", self.around(_files.write_whole))
        remover = types.SimpleNamespace(rmtree=self.around(shutil.rmtree))
        monkeypatch.setattr(_part, "shutil", remover)
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
            if call.__name__ == "append" and args[1]:
                self.moment(lambda: half_of(*args))
            call(*args, **named)
            self.moment()

        return cut


def half_of(path, rows, sync=False):
    text = _files.lines(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text[: len(text) * 2 // 3])


@pytest.mark.parametrize("changed", [{}, POPULATION], ids=["halving", "pbt"])
def test_killed_at_any_instant_it_ends_with_the_same_results(tmp_path, monkeypatch, changed):
    write_plainly(monkeypatch)
    changed = {"steps": 20, **changed}
    with monkeypatch.context() as patch:
        instants = Instants(patch)
        whole = run(tmp_path / "whole", **changed)
    assert instants.seen > 30
    for at in range(1, instants.seen + 1):
        out = tmp_path / str(at)
        with monkeypatch.context() as patch:
            Instants(patch, at)
            with pytest.raises(Killed):
                run(out, **changed)
        resumed = run(out, **changed)
        assert plain(resumed.rows) == plain(whole.rows), at
        assert history(resumed) == history(whole), at
        assert len(lines(out / "trials.jsonl")) == len(whole.rows)
        assert len(lines(out / "metrics.jsonl")) == len(whole.history)


HISTORY, ROWS = "metrics.jsonl", "trials.jsonl"


class Disk:
    """Notes what is on the disk, and looks at it when something begins to rely on it."""

    def __init__(self, monkeypatch, out):
        self.synced, self.relied = {}, []
        fsync, replace = os.fsync, os.replace
        save, remove = Checkpoints.save, _part.PartFolder.remove
        monkeypatch.setattr(os, "fsync", lambda handle: self.sync(handle) or fsync(handle))
        monkeypatch.setattr(os, "replace", lambda *paths: self.named(*paths) or replace(*paths))

        def saves(self_, *args):
            self.rely(self_.folder.parents[1], HISTORY)
            save(self_, *args)

        def removes(self_):
            self.rely(out, HISTORY, ROWS)
            remove(self_)

        monkeypatch.setattr(Checkpoints, "save", saves)
        monkeypatch.setattr(_part.PartFolder, "remove", removes)

    def sync(self, handle):
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.name == ROWS:
            self.rely(path.parent, HISTORY)
        self.synced[path] = os.fstat(handle).st_size

    def named(self, part, path):
        assert self.synced[Path(part)] == Path(part).stat().st_size > 0
        if Path(path).name == ROWS:
            self.rely(Path(path).parent, HISTORY)
        self.relied.append(Path(path).name)

    def rely(self, folder, *names):
        for path in (folder / name for name in names):
            assert self.synced.get(path, 0) == path.stat().st_size
        self.relied += names


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names open files by /proc")
@pytest.mark.parametrize("save_seconds", [0, 1000])
def test_what_relies_on_a_file_is_written_after_it_is_on_the_disk(
    tmp_path, monkeypatch, save_seconds
):
    """A checkpoint on the history, rows on it too, and the end of a batch's folder on both."""
    write_plainly(monkeypatch)
    disk = Disk(monkeypatch, tmp_path)
    run(tmp_path, steps=20, save_seconds=save_seconds)
    files = {"sweep.json", "driver.json", "machine.json", "batch.json", "results.csv"}
    assert set(disk.relied) == {*files, HISTORY, ROWS}


def test_a_folder_that_is_half_removed_is_no_batch(tmp_path, monkeypatch):
    """A kill while a batch is discarded, for its trials were no longer in the space."""

    def kill(progress):
        if progress.step == 20:
            raise Killed

    def half(folder):
        next(folder.rglob("manifest.json")).unlink()
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, on_segment=kill)
    with monkeypatch.context() as patch:
        patch.setattr(_part, "shutil", types.SimpleNamespace(rmtree=half))
        with pytest.raises(Killed):
            run(tmp_path, space(lr=[0.1], seeds=1))
    assert plain(run(tmp_path).rows) == plain(run(tmp_path / "whole").rows)


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
