"""Programs: one a bucket and width, as wide as memory allows, over all devices."""

import functools
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import sweep
from seqcells.sweep import _bucket, _program
from tests.support.sweeps import make, space


def test_one_program_a_bucket_and_width_is_compiled():
    traced = chex.assert_max_traces(n=1)
    sizes = []

    def counted(size):
        sizes.append(size)
        return make(size, traced if size == 2 else chex.assert_max_traces(n=4))

    few = space(seeds=8, lr=[0.1], static={"size": [2]})
    sweep.run(counted, few, 30, segment=10, batch=4)  # two batches
    chex.clear_trace_counter()
    few = space(seeds=8, lr=[0.1], static={"size": [3]})
    sweep.run(counted, few, 40, segment=10, halving=sweep.Halving(10))  # widths 8, 4, 2, 1
    assert sizes == [2, 3]


def test_a_bucket_is_of_values_of_one_type(once):
    sizes = []

    def sized(flag):
        sizes.append(flag)
        return make()

    some = space(seeds=1, lr=[0.1], static={"flag": [1, True, 1.0]})
    assert len({row["id"] for row in sweep.run(sized, some, 10, segment=10).rows}) == 3
    assert list(map(repr, sizes)) == ["1", "True", "1.0"]


def test_a_batch_is_as_wide_as_memory_allows(monkeypatch, once):
    narrow = functools.partial(sweep.run, make, space(), 10, segment=10)
    full, need = narrow(), {}

    def available(sharing):
        return int(need["bytes"] / _program.SHARE)

    build = _bucket.build

    def seen(*args):
        return build(*args)._replace(bytes=100 + 10 * args[2])

    monkeypatch.setattr(_bucket, "build", seen)
    monkeypatch.setattr(_program, "available", available)
    widths = []
    for need["bytes"] in (145, 125):
        result = narrow(on_segment=lambda p: widths.append(p.alive))
        one, other = ([row["loss"] for row in some.rows] for some in (result, full))
        np.testing.assert_allclose(one, other, 1e-5)
    assert widths == [4, 4] + [2] * 4
    need["bytes"] = 100
    refusal = "batch: expected a trial that fits into 1e-07 GB per device, .* needs 1.1e-07 GB"
    with pytest.raises(ValueError, match=refusal):
        narrow()
    refusal = r"batch: expected a batch of 4 trials .*; pass a smaller batch"
    with pytest.raises(ValueError, match=refusal):
        narrow(batch=4)


def test_a_program_needs_the_memory_of_its_state():
    hparams = {"lr": np.ones(1, np.float32)}

    def init(hparams, key):
        return jnp.ones((1000, 1000)) * hparams["lr"]

    task = sweep.Task(init, lambda a, hparams, n: (a + 1, {"loss": jnp.zeros(n)}))
    small, big = (_program.build(task, hparams, w, 1, "loss", jax.random.key(0)) for w in (1, 4))
    assert 3 * 4e6 <= big.bytes - small.bytes <= 4 * 3 * 4e6
    assert 1e6 < _program.available() < 1e14


TWO = """
import jax, re
jax.config.update("jax_num_cpu_devices", 2)
from seqcells import sweep, train
from seqcells.sweep import _bucket
from tests.support.sweeps import make, plain, space
from tests.sweep import test_pbt
programs, build = [], _bucket.build
def seen(*args):
    programs.append(build(*args))
    return programs[-1]
_bucket.build = seen
halving = sweep.Halving(10)
result = sweep.run(make, space(seeds=3), 30, segment=10, halving=halving)
assert [p.width for p in programs] == [8, 4, 2], programs
for program in programs:
    text = program.advance.as_text() + program.init.as_text()
    assert not re.search("all-gather|all-reduce|all-to-all|permute|reduce-scatter", text)
    assert len(program.like["w"].sharding.device_set) == 2
assert [row["steps"] for row in result.rows].count(30) == 2
test_pbt.test_a_lineage_explains_the_state_of_every_trial()  # copies come from both devices
assert len(programs[-1].like.state["x"].sharding.device_set) == 2
"""


def test_trials_share_the_devices_without_a_collective(pytestconfig):
    env, root = os.environ | {"JAX_PLATFORMS": "cpu"}, pytestconfig.rootpath
    run = [sys.executable, "-c", TWO]
    done = subprocess.run(
        run, capture_output=True, encoding="utf-8", env=env, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("engine", [None, sc.Scan()], ids=["deferred", "scan"])
@pytest.mark.parametrize("few", [False, True])
def test_a_cpu_runs_trials_of_long_nets_in_turn(engine, few, monkeypatch):
    """Nets with an engine that goes trial by trial anyway, and large enough; others by vmap."""
    cell, xs = sc.GRU(3), jnp.ones((6, 4, 2))
    monkeypatch.setattr(_program, "ENTRIES", 6 * 4 * 3 + few)

    @jax.grad
    def gradient(params, scale):
        return jnp.mean(jnp.square(sc.unroll(cell, params, scale * xs, engine=engine)[1]))

    keys = jax.random.split(jax.random.key(0), 5)
    trials = jax.vmap(lambda key: cell.init(key, 2))(keys), jnp.arange(5.0)
    batched = jax.jit(_program._batched(gradient))
    text = str(batched.trace(*trials).jaxpr)
    assert ("length=5" in text) == (engine is None)  # a loop over trials, in this or in the engine
    assert ("f32[5,6,4,3]" in text) == (few or engine is not None)  # carries of all at once
    got, expected = batched(*trials), jax.jit(jax.vmap(gradient))(*trials)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
