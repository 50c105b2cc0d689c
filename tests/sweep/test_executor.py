"""Batches that workers train: the results of one process, whatever becomes of the workers."""

import contextlib
import functools
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor

import jax
import pytest

from seqcells import sweep
from seqcells.sweep import _driver, _executor, _lease, _part, _pool, _worker
from tests.support.executors import Here, Never
from tests.support.sweeps import POPULATION, SWEEP, Killed, make, plain, run, space, write_plainly
from tests.sweep.test_resume import Instants, history

pytestmark = pytest.mark.usefixtures("once")
FEW = space(lr=[0.1], seeds=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses, and programs that belong to one test."""
    monkeypatch.setattr(_executor, "PAUSE", 0)
    monkeypatch.setattr(_executor, "LOOK", 0)
    monkeypatch.setattr(_driver, "LOOK", 0.01)
    monkeypatch.setattr(_worker, "LOOK", 0)
    monkeypatch.setattr(_executor, "GRACE", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep in one process."""
    return run(tmp_path_factory.mktemp("whole"))


def same(result, whole):
    assert plain(result.rows) == plain(whole.rows)
    assert history(result) == history(whole)


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


@pytest.fixture
def begun(tmp_path):
    """The folder of a batch that has begun, in a sweep whose process has died."""

    def kill(_):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, on_segment=kill)
    (folder,) = (path.parent for path in tmp_path.glob("batches/*/batch.json"))
    return folder


@pytest.mark.parametrize("executor", [None, Here()], ids=["here", "workers"])
def test_a_driver_waits_for_the_worker_of_an_earlier_run(tmp_path, whole, begun, executor, caplog):
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lease.hold(begun)).show(pid=7)
        release = threading.Timer(0.3, stack.pop_all().close)
        release.start()
        start = time.monotonic()
        same(run(tmp_path, executor=executor), whole)
        assert time.monotonic() - start > 0.2
        release.join()
    assert executor is None or executor.count == 2  # batches, each sent once
    (line,) = (one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)
    assert "process 7 on" in line
    assert str(begun) in line


@pytest.mark.parametrize("executor", [None, Here()], ids=["here", "workers"])
def test_a_driver_that_waits_can_be_stopped(tmp_path, begun, executor):
    with _lease.hold(begun):
        stops = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        stops.start()
        with pytest.raises(SystemExit):
            run(tmp_path, executor=executor)
        stops.join()


def test_a_silent_holder_loses_its_batch(tmp_path, monkeypatch, whole, begun, caplog):
    monkeypatch.setattr(_lease, "BEAT", 1000)
    with _lease.hold(begun) as frozen:
        os.utime(begun / "lock", (0, 0))
        same(run(tmp_path, executor=Here()), whole)
        with pytest.raises(_lease.Lost, match="another worker has taken this batch over"):
            frozen.show(step=10)
    assert "take over from process" in caplog.text


def test_a_lease_of_another_machine_counts_while_it_is_young(tmp_path):
    """Where machines do not share the locks of the kernel."""
    (tmp_path / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 7}), encoding="utf-8")
    with pytest.raises(_lease.Held, match="process 7 on elsewhere"), _lease.hold(tmp_path):
        pass
    assert _lease.holder(tmp_path).lives
    os.utime(tmp_path / "lock", (0, 0))
    assert _lease.holder(tmp_path) is None
    with _lease.hold(tmp_path) as lease:
        lease.show(step=3)
        assert _lease.facts(tmp_path)["step"] == 3
    assert (_lease.facts(tmp_path), _lease.holder(tmp_path)) == ({}, None)


def test_workers_are_shown_to_others(tmp_path, begun):
    assert sweep.workers(tmp_path) == []
    with _lease.hold(begun) as lease:
        (one,) = sweep.workers(tmp_path)
        assert (one.pid, one.step, one.alive) == (os.getpid(), 0, 4)
        lease.show(step=20, alive=3, best=0.5)
        (one,) = sweep.workers(tmp_path)
        assert (one.step, one.alive, one.best, len(one.trials)) == (20, 3, 0.5, 4)
        assert 0 <= one.silent < 5
    assert sweep.workers(tmp_path) == []
    assert sweep.workers(tmp_path / "none") == []


def test_a_lease_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(_lease, "BEAT", 0.01)
    with _lease.hold(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        end = time.monotonic() + 10
        while (tmp_path / "lock").stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert _lease.holder(tmp_path).lives


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


def forks():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


REFUSED = [
    ({"executor": 3}, TypeError, r"executor: expected an object with submit\(f, \*args\), got 3"),
    ({"executor": forks}, ValueError, "executor: expected a pool that spawns .* JAX hangs; write"),
    ({"executor": Here, "out": None}, ValueError, "out: expected a folder that all workers see"),
    ({"executor": Here, "in_flight": 0}, ValueError, "in_flight: expected an int >= 1, got 0"),
    ({"executor": Here, "make": lambda: make()}, TypeError, "make: .* pickle can send .*lambda"),
    (
        {"executor": Here, "make": functools.partial(make, traced=lambda f: f)},
        TypeError,
        "make: expected a value that pickle can send",
    ),
]


@pytest.mark.parametrize(("changed", "error", "message"), REFUSED)
def test_what_cannot_work_is_refused_before_anything_runs(tmp_path, changed, error, message):
    executor = changed["executor"]
    given = {"make": make, "out": tmp_path / "out", "steps": 20, "segment": 10} | changed
    given["executor"] = executor() if callable(executor) else executor
    with pytest.raises(error, match=message):
        sweep.run(space=FEW, **given)
    assert not (tmp_path / "out").exists()


def test_a_function_typed_into_a_notebook_is_refused_for_a_pool(tmp_path, monkeypatch):
    typed = functools.partial(make, 2)
    monkeypatch.setattr(make, "__module__", "__main__")
    main = type("Main", (), {"make": make})
    monkeypatch.setitem(sys.modules, "__main__", main)
    with (
        sweep.processes(1) as pool,
        pytest.raises(TypeError, match=r"make: .* of an interactive session; write it"),
    ):
        sweep.run(typed, FEW, out=tmp_path, executor=pool, **SWEEP)


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
