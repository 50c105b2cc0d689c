"""Laws of several processes: one all-reduce a step, a common start, and clean ends."""

import contextlib
import os
import signal
import socket
import sys
import time

import jax
import pytest

import seqcells as sc
from seqcells import distributed
from seqcells.distributed import __main__ as launcher
from seqcells.distributed import _start
from tests.support.processes import ended, open_mpi, slurm, started

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

REFUSED = """
import jax
from seqcells import sweep
from tests.support.sweeps import make, space

print(jax.process_count(), jax.device_count())
try:
    sweep.run(make, space(), 10, segment=10)
except ValueError as error:
    print(error)
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


@pytest.mark.parametrize("cluster", [slurm, pytest.param(open_mpi, marks=pytest.mark.slow)])
def test_processes_of_a_cluster_find_each_other_and_a_sweep_names_the_executor(script, cluster):
    with started(2, script(REFUSED), cluster=cluster) as running:
        codes, outs, errors = ended(running)
    assert codes == [0] * 2, errors
    for out in outs:
        counts, refusal = out.splitlines()[-2:]
        assert counts == "2 2"
        assert refusal.startswith("executor: expected a sweep in one process, which has batches")


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
