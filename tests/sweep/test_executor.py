"""Batches that workers train: the results of one process, whatever becomes of the workers."""

import contextlib
import json
import os
import signal
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

import jax
import pytest

from seqcells import sweep
from seqcells.sweep import _executor, _lease, _part, _pool, _worker
from tests.support.executors import Here, Never
from tests.support.sweeps import (
    POPULATION,
    SWEEP,
    Killed,
    make,
    run,
    same,
    space,
    write_plainly,
)
from tests.sweep.test_resume import Instants

pytestmark = pytest.mark.usefixtures("once", "quick")
FEW = space(lr=[0.1], seeds=1)


def test_workers_train_what_one_process_trains(tmp_path, whole):
    engine = Here()
    result = run(tmp_path, executor=engine)
    same(result, whole)
    assert [len(work.job.trials) for work in engine.works] == [4, 2]
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *("sweep.json", "machine.json", "trials.jsonl", "metrics.jsonl", "results.csv", "lock")
    }
    assert not list(tmp_path.glob("batches/*"))
    again = Here()
    same(run(tmp_path, executor=again), whole)
    assert again.count == 0


def test_a_bucket_is_compiled_once_by_a_worker(tmp_path, monkeypatch):
    sizes = []

    def counted(self):
        sizes.append(self.trial.static)
        return make()

    monkeypatch.setattr(_worker.Bucket, "_task", property(counted))
    _worker._programs.cache_clear()
    built = []
    build = _worker.Bucket._build
    monkeypatch.setattr(
        _worker.Bucket, "_build", lambda self, width: built.append(width) or build(self, width)
    )
    some = space(lr=[0.1], seeds=6)
    run(tmp_path, some, batch=2, halving=None, executor=Here())
    assert built == [2]


class Dying(Instants):
    """Ends a worker, or the driver, at the n-th change that it makes in the folder."""

    def __init__(self, monkeypatch, at):
        super().__init__(monkeypatch, at)
        self.within = False

    def moment(self, then=lambda: None):
        if self.within:
            super().moment(then)


@contextlib.contextmanager
def switched(dying, within):
    """A context in which a `Dying` counts moments, or does not."""
    before, dying.within = dying.within, within
    try:
        yield
    finally:
        dying.within = before


def at_each_instant(tried, tmp_path, least):
    """Call `tried(folder, instant)` for each; `tried(folder, None)` returns how many there are."""
    last = tried(tmp_path / "count", None)
    assert last >= least
    for at in range(1, last + 1):
        tried(tmp_path / str(at), at)


@pytest.mark.parametrize(
    "sweep_of",
    [{"some": FEW, "steps": 20}, pytest.param(POPULATION, marks=pytest.mark.slow)],
    ids=["halving", "pbt"],
)
def test_a_batch_is_sent_again_when_its_worker_dies_at_any_instant(tmp_path, monkeypatch, sweep_of):
    write_plainly(monkeypatch)
    whole = run(tmp_path / "whole", **sweep_of)

    def tried(out, at):
        with monkeypatch.context() as patch:
            dying = Dying(patch, at)
            engine = Here(lambda _: switched(dying, True))
            same(run(out, **sweep_of, executor=engine), whole)
        assert engine.count == 1 + (at is not None)
        return dying.seen

    at_each_instant(tried, tmp_path, least=11)


def test_a_driver_that_dies_at_any_instant_is_followed_by_another(tmp_path, monkeypatch):
    write_plainly(monkeypatch)
    whole = run(tmp_path / "whole", steps=20)

    def tried(out, at):
        with monkeypatch.context() as patch:
            dying = Dying(patch, at)
            engine = Here(lambda _: switched(dying, False))
            with contextlib.suppress(Killed), switched(dying, True):
                run(out, steps=20, executor=engine)
        again = Here()
        same(run(out, steps=20, executor=again), whole)
        assert engine.count + again.count == 2  # what was trained is not trained again
        return dying.seen

    at_each_instant(tried, tmp_path, least=16)


def test_workers_that_die_again_and_again_without_progress_end_the_run(tmp_path, whole):
    @contextlib.contextmanager
    def dies(_):
        raise MemoryError("killed")
        yield

    message = r"workers that ended 3 times without a new checkpoint, the last with MemoryError"
    with pytest.raises(sweep.WorkersLost, match=message):
        run(tmp_path, executor=Here(dies))
    same(run(tmp_path, executor=Here()), whole)


def test_a_batch_that_makes_progress_is_sent_as_often_as_it_needs(tmp_path, monkeypatch):
    """Each worker ends after the segment of one checkpoint."""
    train, whole = _worker.train, run(tmp_path / "whole", FEW, steps=60)

    def one_segment(bucket, job, part, stop, report):
        steps = []
        return train(
            bucket, job, part, lambda: len(steps) > 0 or stop(), lambda *_: steps.append(1)
        )

    monkeypatch.setattr(_worker, "train", one_segment)
    engine = Here()
    same(run(tmp_path / "out", FEW, steps=60, executor=engine), whole)
    assert engine.count == 6 > _executor.PATIENCE


def test_a_broken_pool_ends_the_run_with_one_line_and_a_second_one_goes_on(tmp_path, whole):
    @contextlib.contextmanager
    def breaks(n):
        if n == 1:
            raise BrokenExecutor("a child ended")
        yield

    with pytest.raises(sweep.WorkersLost, match=r"\(a child ended\).* make a new pool, and call"):
        run(tmp_path, executor=Here(breaks))
    again = Here()
    same(run(tmp_path, executor=again), whole)
    assert again.count == 1
    broken = Here()
    broken.submit = lambda *_: (_ for _ in ()).throw(BrokenExecutor("gone"))
    with pytest.raises(sweep.WorkersLost, match="gone"):
        run(tmp_path / "other", executor=broken)


def test_an_error_of_the_task_is_raised_by_the_driver_with_its_traceback(tmp_path):
    with pytest.raises(KeyError, match="no data") as caught:
        sweep.run(fails, FEW, out=tmp_path, executor=Here(), **SWEEP)
    assert "in fails" in "".join(caught.value.__notes__)


def fails():
    raise KeyError("no data")


def test_a_full_disk_is_named_and_a_second_run_goes_on(tmp_path, monkeypatch, whole):
    def full(path, rows, *, sync=False):
        if len(list(tmp_path.rglob("generation-*"))) == 1:
            raise OSError(28, "No space left on device", os.fspath(path))
        append(path, rows, sync=sync)

    append = _part.append
    monkeypatch.setattr(_part, "append", full)
    with pytest.raises(OSError, match=r"No space left .*batches/.*/metrics\.jsonl"):
        run(tmp_path, executor=Here())
    monkeypatch.setattr(_part, "append", append)
    same(run(tmp_path, executor=Here()), whole)


def work_of(tmp_path, **changed):
    """A batch as it is sent by the run "a"."""
    engine = Never()
    sent = []
    engine.submit = lambda f, work: sent.append(work) or (_ for _ in ()).throw(Killed)
    with pytest.raises(Killed):
        run(tmp_path, FEW, executor=engine)
    (tmp_path / "driver.json").write_text('{"run": "a"}', encoding="utf-8")
    return sent[0]._replace(**({"run": "a"} | changed))


def test_a_worker_stops_when_its_driver_no_longer_wants_the_batch(tmp_path, monkeypatch):
    work = work_of(tmp_path)
    assert _worker.Trainer()(work._replace(run="b")) == ("stopped", None)
    wanted, seen = _worker._Wanted.__call__, []

    def ends(self):
        seen.append(1)
        if len(seen) == 3:
            (tmp_path / "driver.json").unlink()
        return wanted(self)

    monkeypatch.setattr(_worker._Wanted, "__call__", ends)
    work = work._replace(plan=work.plan._replace(save_seconds=1000))
    assert _worker.Trainer()(work).state == "stopped"
    assert list(tmp_path.glob("batches/*/checkpoints/*/generation-*"))
    assert not list(tmp_path.glob("batches/*/trials.jsonl"))


def test_a_worker_of_another_kind_is_refused_by_name(tmp_path):
    run(tmp_path, FEW, executor=Here())
    about = json.loads((tmp_path / "machine.json").read_text("utf-8"))
    about |= {"jax": "0.0.1", "devices": 64}
    (tmp_path / "machine.json").write_text(json.dumps(about), encoding="utf-8")
    message = rf"executor: .* got process {os.getpid()} on .* \(jax: 0.0.1 there, .* here; devices"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, executor=Here())


def test_a_worker_computes_with_the_settings_of_the_driver(tmp_path):
    with jax.enable_x64(True):
        whole = run(tmp_path / "whole", FEW)
        engine = Here(lambda _: jax.enable_x64(False))
        same(run(tmp_path / "out", FEW, executor=engine), whole)
    assert _worker.switches() != engine.works[0].switches


def test_ctrl_c_stops_the_work_that_is_out_and_saves(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(_executor, "GRACE", 10)

    def interrupt(progress):
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, space(seeds=16), executor=pool, on_segment=interrupt, steps=10_000)
        assert not (tmp_path / "driver.json").exists()
        assert not any(_lease.holder(path) for path in tmp_path.glob("batches/*"))
    assert list(tmp_path.glob("batches/*/checkpoints/*/generation-*"))


def test_progress_has_rows_with_the_fields_and_metrics_of_the_segment(tmp_path):
    seen = []
    with ThreadPoolExecutor(1) as pool:
        result = run(tmp_path, FEW, executor=pool, on_segment=seen.append, steps=300)
    lines = {(one["id"], one["step"]): one["metrics"]["loss"] for one in result.history}
    fields = {row["id"]: (row["lr"], row["seed"]) for row in result.rows}
    assert len(seen) > 3
    for one in seen:
        assert [row["id"] for row in one.rows] == [row["id"] for row in result.rows]
        assert {row["steps"] for row in one.rows} == {one.step}
        for row in one.rows:
            assert row["loss"] == lines[row["id"], one.step]
            assert (row["lr"], row["seed"]) == fields[row["id"]]


def test_a_time_limit_ends_between_segments_with_a_table(tmp_path, whole):
    seen = []
    for executor in (Here(), None):
        out = tmp_path / str(executor is None)
        result = run(out, executor=executor, minutes=1e-9)
        assert {row["status"] for row in result.rows} == {"unfinished"}
        same(run(out, executor=executor, minutes=60, on_segment=seen.append), whole)
    with pytest.raises(ValueError, match="minutes: expected"):
        run(tmp_path, minutes=0)


def test_processes_share_cores_and_gpus(monkeypatch, tmp_path):
    assert [_pool.share([0, 1, 2, 3, 4], i, 2) for i in range(2)] == [[0, 1], [2, 3]]
    assert [_pool.share([4, 5], i, 3) for i in range(3)] == [[4], [5], [4]]
    assert _pool.gpu([], 0, 2) == {}
    shares = [_pool.gpu(["0", "3"], i, 4) for i in range(4)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in shares] == ["0", "3", "0", "3"]
    assert {one["XLA_PYTHON_CLIENT_MEM_FRACTION"] for one in shares} == {"0.375"}
    monkeypatch.setattr(_pool, "GPUS", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "a").mkdir()
    assert _pool._gpus() == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert _pool._gpus() == ["2", "5"]
