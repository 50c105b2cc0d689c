"""Trials: the bits of one do not depend on its neighbours."""

import functools
import itertools
import math
import types

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqcells import sweep, train
from seqcells.sweep import _batch
from tests.support.sweeps import make, plain, space


def by_id(result):
    return {row["id"]: row for row in plain(result.rows)}


def test_a_trial_has_the_same_bits_in_any_batch_and_space(once):
    whole = sweep.run(make, space(), 20, segment=10, batch=4)
    part = sweep.run(make, space(seeds=3, lr=[0.1]), 20, segment=10, batch=4)
    assert [row["status"] for row in whole.rows] == ["done"] * 8
    assert by_id(part).items() <= by_id(whole).items()
    assert len({row["loss"] for row in whole.rows}) == 8  # each has a key of its own
    other = sweep.run(make, space(), 20, segment=10, batch=4, key=jax.random.key(1))
    assert not {row["loss"] for row in whole.rows} & {row["loss"] for row in other.rows}


def test_a_row_equals_a_plain_loop():
    result = sweep.run(make, space(seeds=1), 20, segment=10)
    for trial, row in zip(space(seeds=1).trials(), result.rows, strict=True):
        words = int(trial.id[:6], 16), int(trial.id[6:], 16)
        key = functools.reduce(jax.random.fold_in, words, jax.random.key(0))
        task = make()
        hparams = {n: jnp.asarray(v) for n, v in trial.hparams.items()}
        _, metrics = task.segment(task.init(hparams, key), hparams, 20)
        np.testing.assert_allclose(row["loss"], np.mean(metrics["loss"][10:]), 1e-6)
        first, last = (line["metrics"] for line in result.history if line["id"] == trial.id)
        np.testing.assert_allclose(first["largest"], np.mean(metrics["largest"][:10]), 1e-6)
        assert last["largest"] == row["largest"]


def test_parameters_and_steps_have_keys_of_their_own():
    seen = {}

    def loss(params, key, hparams):
        return jnp.sum(params), {}

    def init(key, hparams):
        seen["params"] = jax.random.key_data(key).tolist()
        return jnp.ones(2)

    task = sweep.from_loss(loss, init, lambda hparams: optax.sgd(0.1))
    state = task.init({}, jax.random.key(3))
    others = [jax.random.key_data(key).tolist() for key in (state.key, jax.random.key(3))]
    assert seen["params"] not in others
    assert others[0] != others[1]


def test_a_module_of_flax_and_an_optimiser_of_optax_are_swept():
    xs = jnp.linspace(-1, 1, 16)[:, None]

    def task(width):
        def net(key):
            return nnx.split(nnx.Linear(1, width, rngs=nnx.Rngs(params=key)), nnx.Param)

        graph = nnx.split(nnx.eval_shape(lambda: nnx.Linear(1, width, rngs=nnx.Rngs(0))))[0]

        def loss(params, key, hparams):
            noise = hparams["noise"] * jax.random.normal(key, xs.shape)
            return jnp.mean(jnp.square(nnx.merge(graph, params)(xs) - xs - noise)), {}

        return sweep.from_loss(loss, lambda key, h: net(key)[1], lambda h: optax.sgd(h["lr"]))

    some = sweep.Space(
        lr=sweep.log(1e-3, 1, 8), noise=[0.0, 0.1], seed=range(4), static={"width": [3]}
    )
    result = sweep.run(task, some, 200)
    assert len(result.rows) == 64
    best = result.ranked()[0]
    assert best["mean"] < 1e-3 < result.ranked()[-1]["mean"]
    assert (best["n"], best["noise"]) == (4, 0.0)


def test_a_loss_is_trained_with_the_fields_that_adamw_reads():
    def loss(params, key, hparams):
        return jnp.square(params - hparams["target"]), {}

    task = sweep.from_loss(loss, lambda key, hparams: jnp.float32(3))
    some = sweep.Space(learning_rate=[0.1], max_norm=[0.5], b1=[0.5], target=[1.0, 2.0])
    result = sweep.run(lambda: task, some, 20, segment=20)
    for row in result.rows:
        hparams = train.HParams(learning_rate=0.1, max_norm=0.5, b1=0.5)
        state = train.init(jnp.float32(3), hparams, jax.random.key(0))
        given = {"target": row["target"]}
        _, metrics = train.run(lambda p, k, _: loss(p, k, given), state, hparams, 20)  # noqa: B023
        np.testing.assert_allclose(row["loss"], np.mean(metrics["loss"]), 1e-5)


def test_the_largest_values_are_trained_as_they_are():
    def segment(state, hparams, n):
        return state, {"loss": jnp.zeros(n), "got": jnp.full(n, hparams["x"].astype(float))}

    task = sweep.Task(lambda hparams, key: hparams["x"], segment)
    for values in ([-1, 2**31 - 1, -(2**31)], [1e38, -2e-38, 16777216.0, 1e10]):
        rows = sweep.run(lambda: task, sweep.Space(x=values), 1).rows
        assert [row["got"] for row in rows] == np.float32(values).tolist()


def test_progress_shows_the_best_of_the_batch(once):
    for mode, better in (("min", min), ("max", max)):
        seen, options = [], {"segment": 10, "batch": 4, "mode": mode}
        result = sweep.run(make, space(seeds=2), 20, on_segment=seen.append, **options)
        losses = [
            [line["metrics"]["loss"] for line in result.history if line["step"] == step]
            for step in (10, 20)
        ]
        assert [one.best for one in seen] == [better(some) for some in losses]
        assert [(one.step, one.alive, one.finished, one.total) for one in seen] == [
            (10, 4, 0, 4),
            (20, 4, 0, 4),
        ]


def test_progress_has_a_row_of_each_trial_that_was_trained_with_its_fields():
    def segment(x, hparams, n):
        bad = (x > 1) & (hparams["seed"] == 3)
        return x + n, {"loss": jnp.full(n, jnp.where(bad, jnp.nan, hparams["seed"] / 8))}

    task = sweep.Task(lambda hparams, key: jnp.zeros(()), segment)
    space, seen = sweep.Space(seed=range(4), static={"cell": ["gru"]}), []
    options = {"segment": 2, "halving": sweep.Halving(4), "on_segment": seen.append}
    result = sweep.run(lambda cell: task, space, 6, **options)
    ids = {row["seed"]: row["id"] for row in result.rows}
    trained = {2: [0, 1, 2, 3], 4: [0, 1, 2, 3], 6: [0, 1]}  # 3 diverges at 4, 2 is pruned
    assert [one.step for one in seen] == [*trained]
    for one in seen:
        assert [str(row) for row in one.rows] == [
            str({"id": ids[seed], "cell": "gru", "seed": seed, "steps": one.step, "loss": loss})
            for seed in trained[one.step]
            for loss in [math.nan if seed == 3 and one.step > 2 else seed / 8]
        ]


def test_trials_share_the_seconds_of_the_machine(once, monkeypatch):
    clock = itertools.count(step=8)  # a segment takes 8 seconds, and trains 8 trials
    monkeypatch.setattr(_batch, "time", types.SimpleNamespace(perf_counter=clock.__next__))
    result = sweep.run(make, space(), 20, segment=10)
    assert [row["seconds"] for row in result.rows] == [2.0] * 8
