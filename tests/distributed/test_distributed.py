"""Laws of several processes: trials without communication, one all-reduce a step, clean ends."""

import contextlib
import json
import os
import signal
import socket
import sys
import time

import jax
import pytest

import seqcells as sc
from seqcells import distributed, sweep
from seqcells._checkpoint import RunLocked
from seqcells.distributed import __main__ as launcher
from seqcells.distributed import _start
from seqcells.sweep import _run
from tests.support.processes import ended, open_mpi, slurm, started
from tests.support.sweeps import compile_once, make, plain, space

TRAINED = r"""
import inspect, re
import jax, jax.numpy as jnp, numpy as np, optax
import seqcells as sc
from seqcells import train

assert jax.process_count() == 4 == jax.device_count()
CELL, MESH = sc.RNN(5), jax.make_mesh((4,), ("data",))
ONE = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("

def loss(params, key, hparams):
    xs = jax.random.normal(key, (7, 3, 2))
    _, ys = sc.unroll(CELL, params, xs)
    return jnp.mean(jnp.square(ys - xs[..., :1])), {"largest": jnp.max(ys), "of": jnp.int32(3)}

def whole(params, key, hparams):
    each = [loss(params, jax.random.fold_in(key, rank), hparams) for rank in range(4)]
    return jax.tree.map(lambda *of: sum(of) / 4, *each)

def descent(hparams):  # its memory is the gradient
    def update(grads, _, params):
        return jax.tree.map(lambda g: -hparams * g, grads), grads
    return optax.GradientTransformation(lambda params: params, update)

def start(seed):
    return train.init(CELL.init(jax.random.key(seed), 2), 0.1, jax.random.key(1), descent), 0.1

def fit(loss, **more):
    state, metrics = train.fit(loss, *start(0), 4, segment=2, optimizer=descent, **more)
    return state.opt_state, state.params, metrics

# A process with another state is refused.
try:
    train.fit(loss, *start(jax.process_index() // 2), 2, optimizer=descent, mesh=MESH)
except ValueError as error:
    assert "in process 2, 3 than in process 0" in str(error), error
else:
    raise AssertionError("not refused")

got = fit(loss, mesh=MESH)
if jax.process_index() == 0:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(fit(whole)), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    transform = inspect.signature(train.fit).parameters["transform"].default
    segment = train._segment(loss, 2, descent, transform, MESH)
    text = segment.lower(*start(0)).compile().as_text()
    assert re.findall(ONE, text) == ["all-reduce"], re.findall(ONE, text)
    assert re.findall(ONE, text[text.index("\nENTRY") :]) == []  # it is in the loop
print("trained")
"""

SWEPT = r"""
import json, re, sys
import jax
from seqcells import sweep
from seqcells.sweep import _bucket
from tests.support.sweeps import make, plain, space
PROGRAMS, BUILD = [], _bucket.build

def build(*given):
    PROGRAMS.append(BUILD(*given))
    return PROGRAMS[-1]

_bucket.build = build
trials = space(lr=[0.1], seeds=4, boom=(-1, 15))
result = sweep.run(make, trials, 30, segment=10, out=sys.argv[1], save_seconds=0)
one = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
assert PROGRAMS
assert [re.findall(one, p.advance.as_text()) for p in PROGRAMS] == [[]] * len(PROGRAMS)
print(json.dumps(plain(result.rows)))
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.slow
def test_a_step_has_one_all_reduce_and_the_gradient_of_one_process(script):
    with started(4, script(TRAINED)) as running:
        codes, outs, errors = ended(running)
    assert codes == [0] * 4, errors
    assert outs[0].endswith("trained\n")


@pytest.mark.parametrize(
    ("cluster", "count"), [(slurm, 2), pytest.param(open_mpi, 4, marks=pytest.mark.slow)]
)
def test_trials_are_shared_without_a_collective_by_the_same_command(
    script, tmp_path, cluster, count
):
    with started(count, script(SWEPT), tmp_path / "out", cluster=cluster) as running:
        codes, outs, errors = ended(running)
    assert codes == [0] * count, errors
    tables = [json.loads(out.splitlines()[-1]) for out in outs]
    assert all(table == tables[0] for table in tables)
    assert [row["status"] for row in tables[0]] == ["done"] * 4 + ["diverged"] * 4
    assert (tmp_path / "out" / "results.csv").read_text("utf-8").count("done") == 4
    for rank in range(count):
        folder = tmp_path / "out" / f"process-{rank}-of-{count}"
        assert len((folder / "trials.jsonl").read_text("utf-8").splitlines()) == 8 // count


@pytest.fixture
def swept(monkeypatch, tmp_path):
    """Run the share of one process of several, one after the other, in this one."""
    compile_once(monkeypatch)

    def run(rank, count, some, **more):
        monkeypatch.setattr(_run, "_process", lambda: (rank, count))
        given = {"out": tmp_path, "segment": 10, "batch": 4, "save_seconds": 0} | more
        return sweep.run(make, some, 20, **given)

    return run


def test_with_another_number_of_processes_what_is_finished_is_kept(swept, tmp_path):
    some = space(lr=[0.1], seeds=12)
    swept(0, 3, some)
    partly = swept(1, 3, some)
    assert [row["status"] for row in partly.rows] == ["done", "done", "unfinished"] * 4
    reports = []
    last = swept(0, 1, some, on_segment=reports.append)
    assert [(one.alive, one.finished, one.total) for one in reports] == [(4, 8, 12)] * 2
    assert plain(last.rows[:2]) == plain(partly.rows[:2])
    assert {row["status"] for row in last.rows} == {"done"}
    assert len(last.history) == 12 * 2 == len({(one["id"], one["step"]) for one in last.history})
    again = swept(1, 2, some, on_segment=reports.append)
    assert (len(reports), str(again.rows)) == (2, str(last.rows))
    with pytest.raises(ValueError, match="out: expected a folder with this configuration"):
        swept(1, 4, some, metric="largest")


def test_a_process_goes_on_from_its_own_checkpoint(swept):
    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.step == 20:
            raise Killed

    some, steps = space(lr=[0.1], seeds=8), []
    with pytest.raises(Killed):
        swept(1, 2, some, on_segment=kill)
    swept(0, 2, some)
    swept(1, 2, some, on_segment=lambda progress: steps.append(progress.step))
    assert steps == [20]


def test_two_runs_in_one_folder_are_refused_whatever_their_processes(swept):
    some = space(lr=[0.1], seeds=2)

    def second(_):
        for rank, count in ((0, 1), (0, 2), (0, 3)):
            with pytest.raises(RunLocked):
                swept(rank, count, some)

    swept(0, 2, some, on_segment=second)


def test_several_processes_need_a_folder(swept):
    with pytest.raises(ValueError, match="out: expected a folder that all 2 processes see, got No"):
        swept(0, 2, space(lr=[0.1], seeds=1), out=None)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"coordinator": "a:1"}, ValueError, "expected coordinator, process_id and num_processes"),
        ({"coordinator": "a", "process_id": 0, "num_processes": 1}, ValueError, "'host:port'"),
        ({"coordinator": 1, "process_id": 0, "num_processes": 1}, ValueError, "'host:port'"),
        ({"coordinator": "a:1", "process_id": 2, "num_processes": 2}, ValueError, "below num_p"),
        ({"coordinator": "a:1", "process_id": 0.5, "num_processes": 2}, TypeError, "process_id: "),
        ({"heartbeat_seconds": 0}, ValueError, "heartbeat_seconds: expected an int >= 1"),
        ({"hang_seconds": -1}, ValueError, "hang_seconds: expected seconds"),
        ({"hang_seconds": "1"}, ValueError, "hang_seconds: expected seconds"),
        ({"initialization_timeout": 0}, ValueError, "initialization_timeout: expected seconds"),
        *(
            ({"coordinator": at, "process_id": 0, "num_processes": 1}, ValueError, "'host:port'")
            for at in ("a:0", "a:65536", ":1", "a:-1", "a:b")
        ),
    ],
)
def test_wrong_arguments_of_initialize_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        distributed.initialize(**given)


def test_a_mesh_is_a_mesh():
    state = sc.train.init(1.0, sc.train.HParams(), jax.random.key(0))
    with pytest.raises(TypeError, match=r"mesh: expected a mesh, such as jax.make_mesh"):
        sc.train.fit(lambda *_: (0.0, {}), state, sc.train.HParams(), 1, mesh=8)


def test_one_process_beats_and_waits_for_nobody():
    distributed.beat()
    distributed.wait("here")


FAILS = """
import signal, sys, time
import jax
jax.devices()
if jax.process_index() == 1:
    sys.exit(7)
time.sleep(100)
"""


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(script):
    with started(2, script(FAILS), options=("--heartbeat-seconds=2",)) as running:
        start = time.monotonic()
        codes, _, errors = ended(running)
    assert codes == [-signal.SIGABRT, 7], errors
    assert "unhealthy" in errors[0]
    assert time.monotonic() - start < 60


@pytest.fixture
def launch(monkeypatch, capsys):
    """Run the launcher in this process; return its exit code, output and errors."""
    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **k: started.append(k))
    monkeypatch.setattr(distributed, "Watchdog", lambda *_: None)
    monkeypatch.setattr(distributed, "_watchdog", None)
    for name, value in (("client", object()), ("process_id", 0), ("num_processes", 1)):
        monkeypatch.setattr(distributed.global_state, name, value)
    monkeypatch.setattr(distributed, "wait", lambda name: print("waited for", name))
    monkeypatch.setattr(sys, "argv", [""])
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        code = 0
        try:
            launcher.main(list(map(str, arguments)))
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr(), started

    return run


@pytest.mark.parametrize("kind", ["script", "module", "package"])
def test_a_script_or_a_module_gets_its_own_arguments(kind, tmp_path, launch, monkeypatch):
    (tmp_path / "some" / "deep").mkdir(parents=True)
    for name in ("one.py", "some/__init__.py", "some/deep/__init__.py", "some/deep/__main__.py"):
        (tmp_path / name).write_text(
            "import sys\nif __name__ == '__main__': print(sys.argv)", encoding="utf-8"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    ways = {
        "script": [tmp_path / "one.py"],
        "module": ["-m", "one"],
        "package": ["-m", "some.deep"],
    }
    given = ["--timeout", "7", "-x", "-m", "y"]
    code, out, err, (start,) = launch("--timeout", 5, *ways[kind], *given)
    file = tmp_path / ("some/deep/__main__.py" if kind == "package" else "one.py")
    assert (code, err) == (0, "")
    assert out == f"{[str(file), *given]}\nwaited for end\n"
    assert start["initialization_timeout"] == 5 + _start.GRACE


def test_what_cannot_start_is_one_line_before_any_waiting(launch, tmp_path):
    (tmp_path / "a.py").write_text("", encoding="utf-8")
    with socket.create_server(("", 0)) as one:
        port = one.getsockname()[1]
        distributed.global_state.client = None  # as before the start; the fixture restores it
        at = ["--coordinator", f"localhost:{port}", "--process-id", 0, "--num-processes", 2]
        cases = [
            ([*at, tmp_path / "a.py"], f"coordinator: expected a free port, got localhost:{port}"),
            ([tmp_path / "b.py"], "script: expected a Python file or -m MODULE, got"),
            ([], "script: expected a Python file or -m MODULE, got ''"),
            (["-m", "there.is.none"], "-m: expected the name of a module, got 'there.is.none'"),
            (["--timeout", "-1", tmp_path / "a.py"], "initialization_timeout: expected seconds"),
        ]
        for arguments, message in cases:
            code, _, err, begun = launch(*arguments)
            assert (code, begun, err.count("\n")) == (2, [], 1), err
            assert err.startswith(message)


@pytest.mark.parametrize(
    ("rank", "listens", "words"),
    [
        (0, True, "got process 0 without one or more of the others"),
        (1, True, "got process 0 and process 1 without one or more of the others"),
        (1, False, "got no answer there from process 0 (Connection refused)"),
    ],
)
def test_a_process_that_does_not_come_is_named_in_one_line(
    rank, listens, words, capsys, monkeypatch
):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    monkeypatch.setattr(_start, "QUIET", 0.01)
    with contextlib.closing(socket.socket()) as one:
        one.bind(("localhost", 0))
        if listens:
            one.listen()
        at = f"localhost:{one.getsockname()[1]}"
        known = {"coordinator_address": at, "process_id": rank, "num_processes": 3}
        for name, value in known.items():
            monkeypatch.setattr(distributed.global_state, name, value)
        with _start.patience(60):
            time.sleep(0.1)
        assert capsys.readouterr().err == (
            f"seqcells: process {rank} of 3 waits for the others at {at}, 60 s at most\n"
        )
        with _start.patience(0.01):
            while not ends:
                time.sleep(0.01)
    (line,) = capsys.readouterr().err.splitlines()
    assert ends == [1]
    assert line.startswith(f"seqcells: coordinator: expected 3 processes at {at}, {words}")
    assert "after 0.01 s; start all of them" in line


def test_without_a_cluster_it_says_what_to_do(script):
    def nowhere(*_):
        return [], {}

    with started(1, script(""), cluster=nowhere) as running:
        codes, _, (error,) = ended(running)
    assert codes == [2]
    assert error.startswith("coordinator: expected one, or a cluster that JAX knows"), error
