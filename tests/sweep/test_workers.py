"""Real processes that train batches: pools, Dask, submitit, loky and MPI."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from seqcells import sweep
from tests.support.processes import ROOT
from tests.support.sweeps import history, make, plain, space

SOME = space(lr=[0.1], seeds=8)
OPTIONS = {"steps": 40, "segment": 10, "batch": 2}


@contextlib.contextmanager
def pool(tmp_path):
    with sweep.processes(2) as executor:
        yield {"executor": executor}


@contextlib.contextmanager
def loky(tmp_path):
    with pytest.importorskip("loky").ProcessPoolExecutor(2) as executor:
        yield {"executor": executor}


@contextlib.contextmanager
def dask(tmp_path):
    library = pytest.importorskip("distributed")
    given = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with library.LocalCluster(**given) as cluster, library.Client(cluster) as client:
        yield {"executor": client.get_executor()}


@contextlib.contextmanager
def submitit(tmp_path):
    executor = pytest.importorskip("submitit").LocalExecutor(tmp_path / "jobs")
    yield {"executor": executor, "in_flight": 2}


@contextlib.contextmanager
def mpi(tmp_path):
    pytest.importorskip("mpi4py")
    if not shutil.which("mpiexec"):
        pytest.skip("needs mpiexec")
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(2, path=[str(ROOT)]) as executor:
        yield {"executor": executor}


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Workers find this package."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("engine", [dask, submitit, loky, mpi])
def test_an_engine_trains_what_one_process_trains(tmp_path, engine):
    whole = sweep.run(make, SOME, out=tmp_path / "whole", **OPTIONS)
    with engine(tmp_path) as given:
        result = sweep.run(make, SOME, out=tmp_path / "out", **OPTIONS, **given)
    assert plain(result.rows) == plain(whole.rows)
    assert history(result) == history(whole)


def test_a_pool_whose_worker_is_killed_ends_and_one_process_goes_on(tmp_path):
    whole, out = sweep.run(make, SOME, out=tmp_path / "whole", **OPTIONS), tmp_path / "out"

    def kill():
        """Kill the first worker that has a batch, which it has to compile yet."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for worker in sweep.workers(out):
                return os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    with pool(tmp_path) as given, pytest.raises(sweep.WorkersLost, match="call run again to go on"):
        sweep.run(make, SOME, out=out, **OPTIONS, **given)
    killer.join()
    assert "unfinished" in sweep.load(out, SOME).column("status")
    result = sweep.run(make, SOME, out=out, **OPTIONS)
    assert plain(result.rows) == plain(whole.rows)
    assert history(result) == history(whole)


LONG = ["delayed_recall", "--steps", "100000", "--segment", "100", "--static.hidden-size", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, number):
    """Ctrl-C in a terminal reaches all processes; a kill only that which made the pool."""
    out = tmp_path / "out"
    line = ["sweep", *LONG, "--batch", "3", "--executor", "processes:2", "--out", str(out)]
    running = subprocess.Popen(
        [sys.executable, "-m", "experiments", *line],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    end = time.monotonic() + 120
    while not list(out.glob("batches/*/metrics.jsonl")) and time.monotonic() < end:
        time.sleep(0.1)
    workers = [worker.pid for worker in sweep.workers(out)]
    if number == signal.SIGINT:
        os.killpg(running.pid, number)
    else:
        os.kill(running.pid, number)
    text, _ = running.communicate(timeout=120)
    end = time.monotonic() + 30
    while any(_alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)
    assert list(out.glob("batches/*/checkpoints/*/generation-*"))
    if number == signal.SIGINT:
        assert running.returncode == 130
        assert "Stopped. Finished work is kept." in " ".join(text.split())
        assert "Traceback" not in text


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
