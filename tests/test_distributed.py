"""Laws of several processes: members never meet, gradients once a step, nobody waits for the dead."""

import json
import os
import signal
import time

import jax
import numpy as np
import pytest

import seqcells as sc
from seqcells import distributed, sweep
from seqcells._checkpoint import RunLocked
from seqcells.sweep import _run
from tests.processes import by_hand, ended, open_mpi, slurm, started
from tests.sweeps import compile_once, make, plain, space

TRAINED = """
import re, sys
import jax, jax.numpy as jnp, numpy as np
import seqcells as sc
from seqcells import train

assert jax.process_count() == 4 == jax.device_count()
RANK = jax.process_index()
CELL, MESH = sc.GRU(5), jax.make_mesh((4,), ("data",))
ONE = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\\\\("

def loss(params, key, hparams):
    xs = jax.random.normal(key, (7, 3, 2))
    _, ys = sc.unroll(CELL, params, xs)
    return jnp.mean(jnp.square(ys - xs[..., :1])), {"largest": jnp.max(ys), "of": jnp.int32(3)}

def whole(params, key, hparams):
    each = [loss(params, jax.random.fold_in(key, rank), hparams) for rank in range(4)]
    return jax.tree.map(lambda *of: sum(of) / 4, *each)

def start(seed):
    hparams = train.HParams(learning_rate=0.01)
    return train.init(CELL.init(jax.random.key(seed), 2), hparams, jax.random.key(1)), hparams

def near(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)

def take_gradient(hparams):  # as an optimiser that hands it over
    import optax
    return optax.GradientTransformation(
        lambda params: params, lambda grads, state, params: (params, grads)
    )

# The gradient, and a whole run.
first = train.init(start(0)[0].params, start(0)[1], jax.random.key(1), take_gradient)
hparams = start(0)[1]
got, _ = train.fit(loss, first, hparams, 1, optimizer=take_gradient, mesh=MESH)
alone, _ = train.fit(whole, first, hparams, 1, optimizer=take_gradient)
near(got.opt_state, alone.opt_state)
got, metrics = train.fit(loss, *start(0), 12, segment=5, mesh=MESH)
alone, expected = train.fit(whole, *start(0), 12, segment=5)
near((got.params, metrics), (alone.params, expected))

# One all-reduce, in the loop.
text = train._segment(loss, 5, train.adamw, FIT_AS_IT_IS, MESH).lower(*start(0)).compile().as_text()
assert re.findall(ONE, text) == ["all-reduce"], re.findall(ONE, text)
assert re.findall(ONE, text[text.index("\\\\nENTRY") :]) == []

# Who begins with something else is told.
try:
    train.fit(loss, *start(RANK // 2), 1, mesh=MESH)
except ValueError as error:
    assert "in process 2, 3 than in process 0" in str(error), error
else:
    raise AssertionError("not refused")
print("trained")
"""
TRAINED = TRAINED.replace("FIT_AS_IT_IS", "train.fit.__kwdefaults__['transform']").replace(
    "\\\\", "\\"
)

SWEPT = """
import json, re, sys
import jax
from seqcells import sweep
from seqcells.sweep import _bucket
from tests.sweeps import make, plain, space
PROGRAMS, BUILD = [], _bucket.build

def build(*given):
    PROGRAMS.append(BUILD(*given))
    return PROGRAMS[-1]

_bucket.build = build
trials = space(lr=[0.1], seeds=10, boom=(-1, 15))
result = sweep.run(make, trials, 30, segment=10, out=sys.argv[1], save_seconds=0)
one = r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\\("
assert PROGRAMS
assert [re.findall(one, p.advance.as_text()) for p in PROGRAMS] == [[]] * len(PROGRAMS)
print(json.dumps(plain(result.rows)))
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


def test_a_step_has_one_all_reduce_and_the_gradient_of_one_process(script):
    with started(4, script(TRAINED)) as running:
        codes, outs, errors = ended(running)
    assert codes == [0] * 4, errors
    assert outs[0].endswith("trained\n")


@pytest.mark.parametrize("cluster", [slurm, open_mpi])
def test_members_are_shared_and_never_meet_by_the_same_command(script, tmp_path, cluster):
    count = 2
    with started(count, script(SWEPT), tmp_path / "out", cluster=cluster) as running:
        codes, outs, errors = ended(running)
    assert codes == [0] * count, errors
    tables = [json.loads(out.splitlines()[-1]) for out in outs]
    assert tables[0] == tables[1]
    assert [row["status"] for row in tables[0]] == ["done"] * 10 + ["diverged"] * 10
    assert (tmp_path / "out" / "results.csv").read_text().count("done") == 10
    for rank in range(count):
        folder = tmp_path / "out" / f"process-{rank}-of-{count}"
        assert len((folder / "trials.jsonl").read_text().splitlines()) == 20 // count
