"""Batches that another process holds: who waits, who takes over, and what is shown."""

import contextlib
import json
import logging
import os
import signal
import threading
import time

import pytest

from seqcells import sweep
from seqcells.sweep import _lease
from tests.support.executors import Here
from tests.support.sweeps import Killed, run, same

pytestmark = pytest.mark.usefixtures("once", "quick")


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
