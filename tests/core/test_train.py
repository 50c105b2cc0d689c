"""Laws of training: segments, members and hyperparameters change no bit that they need not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import train
from tests.support.laws import assert_close, assert_same_bits, dtypes

KEY = jax.random.key(0)
CELL = sc.GRU(3)
XS = jnp.sin(jnp.arange(20.0)).reshape(5, 2, 2)


def loss(params, key, hparams):
    """A small recurrent problem with noise, and one further metric."""
    _, ys = sc.unroll(CELL, params, XS + 0.1 * jax.random.normal(key, XS.shape))
    value = jnp.mean(jnp.square(ys - 0.5))
    return value, {"largest": jnp.max(jnp.abs(ys))}


def as_arrays(hparams):
    return jax.tree.map(jnp.float32, hparams)


def start(hparams=None, seed=0, optimizer=train.adamw):
    hparams = as_arrays(train.HParams(learning_rate=0.01)) if hparams is None else hparams
    params = CELL.init(jax.random.key(seed), 2)
    return train.init(params, hparams, jax.random.key(seed + 100), optimizer), hparams


def bits(state):
    """A state whose key can be compared."""
    return state._replace(key=jax.random.key_data(state.key))


@pytest.fixture(scope="module")
def whole():
    """200 steps in one go."""
    return train.fit(loss, *start(), steps=200, segment=200)


@pytest.mark.slow
def test_segments_of_any_length_give_the_same_bits(whole):
    state, metrics = train.fit(loss, *start(), steps=200, segment=70)  # and a last one of 60
    assert int(state.step) == 200
    assert_same_bits(bits(state), bits(whole[0]))
    assert_same_bits(metrics, whole[1])


def test_100_steps_and_100_more_are_200(whole):
    begun, hparams = start()
    half, first = train.fit(loss, begun, hparams, steps=100)
    state, second = train.fit(loss, half, hparams, steps=100)
    assert_same_bits(bits(state), bits(whole[0]))
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    assert_same_bits(joined, whole[1])


def test_training_lowers_the_loss(whole):
    losses = whole[1]["loss"]
    assert losses.shape == whole[1]["largest"].shape == whole[1]["grad_norm"].shape == (200,)
    assert np.mean(losses[-20:]) < 0.2 * np.mean(losses[:20])


def test_every_step_has_a_random_key_of_its_own_folded_from_the_runs():
    def show(params, key, hparams):
        return jnp.sum(params) * 0.0, {"bits": jax.random.bits(key)}

    state = train.init(jnp.zeros(2), train.HParams(), KEY)
    _, metrics = train.fit(show, state, train.HParams(), steps=5, segment=3)
    expected = [jax.random.bits(jax.random.fold_in(KEY, step)) for step in range(5)]
    np.testing.assert_array_equal(metrics["bits"], np.stack(expected))
    assert len(set(metrics["bits"].tolist())) == 5


SWEEPS = {
    "learning_rate": [1e-3, 1e-2, 3e-2],
    "max_norm": [1e-3, 0.1, np.inf],
    "b1": [0.0, 0.5, 0.9],
    "b2": [0.9, 0.99, 0.999],
    "eps": [1e-8, 1e-4, 1.0],
    "weight_decay": [0.0, 0.1, 1.0],
}
BASE = train.HParams(learning_rate=0.01)


def short_run(hparams):
    state, _ = start(hparams)
    return train.run(loss, state, hparams, 10)[0].params


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_parameters_are_trained_with_a_wide_memory(dtype):
    cell = sc.GRU(3, param_dtype=dtype)

    def loss(params, key, hparams):
        return jnp.mean(jnp.square(sc.unroll(cell, params, XS)[1] - 0.5)), {}

    hparams = as_arrays(train.HParams(learning_rate=0.03))
    state = train.init(cell.init(KEY, 2), hparams, KEY)
    end, metrics = train.fit(loss, state, hparams, steps=30)
    assert dtypes(end.params) == {jnp.dtype(dtype)}
    memory = {leaf.dtype for leaf in jax.tree.leaves(end.opt_state) if leaf.ndim}
    assert memory == {jnp.dtype("float32")}
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]


def test_runs_with_other_keys_are_other_runs():
    states = [train.init(jnp.zeros(2), train.HParams(), jax.random.key(seed)) for seed in (0, 1)]
    assert np.any(bits(states[0]).key != bits(states[1]).key)


one_run, many_runs = jax.jit(short_run), jax.jit(jax.vmap(short_run))


def test_the_sweeps_name_every_hyperparameter():
    assert set(SWEEPS) == set(train.HParams._fields)


@pytest.mark.parametrize("name", SWEEPS)
def test_members_mapped_over_a_hyperparameter_equal_a_loop(name):
    members = [as_arrays(BASE._replace(**{name: value})) for value in SWEEPS[name]]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *members)
    mapped = many_runs(stacked)
    looped = [one_run(member) for member in members]
    assert_close(mapped, jax.tree.map(lambda *a: jnp.stack(a), *looped), 1e-5)
    ends = [np.asarray(run.w_hh) for run in looped]
    assert np.abs(ends[0] - ends[1]).max() > 1e-7  # the hyperparameter is read
    assert np.abs(ends[1] - ends[2]).max() > 1e-7


def quadratic(params, key, hparams):
    return 0.5 * jnp.sum(hparams["curvature"] * jnp.square(params)), {}


def sgd(hparams):
    return optax.sgd(hparams["rate"], momentum=0.9)


def test_any_optax_optimiser_serves_with_hyperparameters_of_any_tree():
    hparams = {"rate": jnp.float32(0.1), "curvature": jnp.array([1.0, 3.0])}
    state = train.init(jnp.array([1.0, -2.0]), hparams, KEY, sgd)
    state, metrics = train.fit(quadratic, state, hparams, steps=25, segment=10, optimizer=sgd)
    x, velocity, losses, norms = np.array([1.0, -2.0]), np.zeros(2), [], []
    for _ in range(25):
        gradient = np.array([1.0, 3.0]) * x
        losses.append(0.5 * np.sum(gradient * x))
        norms.append(np.linalg.norm(gradient))
        velocity = 0.9 * velocity + gradient
        x = x - 0.1 * velocity
    assert_close(state.params, x, 1e-5)
    assert_close(metrics, {"loss": np.array(losses), "grad_norm": np.array(norms)}, 1e-5)


def test_adamw_clips_by_the_global_norm_then_takes_adams_step():
    hparams = train.HParams(0.1, max_norm=0.5, b1=0.9, b2=0.99, eps=0.5, weight_decay=0.3)
    transform = train.adamw(hparams)
    params, gradient = {"a": jnp.array([3.0]), "b": jnp.array([-4.0])}, {"a": 3.0, "b": -4.0}
    gradient = jax.tree.map(lambda g: jnp.array([g]), gradient)
    updates, _ = transform.update(gradient, transform.init(params), params)
    for name, value in (("a", 3.0), ("b", -4.0)):
        clipped = value * 0.5 / 5
        step = clipped / (abs(clipped) + 0.5) + 0.3 * value  # Adam's first: no moments yet
        assert float(updates[name][0]) == pytest.approx(-0.1 * step, rel=1e-4)


def test_on_segment_sees_every_segment_and_can_end_the_training():
    seen = []

    def watch(state, metrics):
        seen.append((int(state.step), metrics["loss"].shape))
        return int(state.step) >= 20

    state, metrics = train.fit(loss, *start(), steps=200, segment=10, on_segment=watch)
    assert seen == [(10, (10,)), (20, (10,))]
    assert int(state.step) == 20
    assert metrics["loss"].shape == (20,)


def test_a_second_fit_with_the_same_functions_traces_nothing():
    @chex.assert_max_traces(n=1)
    def counted(params, key, hparams):
        return quadratic(params, key, hparams)

    for rate in (0.1, 0.2):
        hparams = {"rate": jnp.float32(rate), "curvature": jnp.ones(2)}
        state = train.init(jnp.ones(2), hparams, KEY, sgd)
        for _ in range(2):
            state, _ = train.fit(counted, state, hparams, steps=20, segment=10, optimizer=sgd)


def test_a_member_of_nan_leaves_the_others_bit_identical():
    def fit(rates):
        hparams = jax.vmap(lambda rate: as_arrays(BASE)._replace(learning_rate=rate))(rates)
        state = jax.vmap(lambda h: start(h)[0])(hparams)
        return train.fit(loss, state, hparams, 20, segment=10, transform=jax.vmap)

    state, metrics = fit(jnp.array([0.01, 0.02, 0.03]))
    sick, sick_metrics = fit(jnp.array([0.01, jnp.nan, 0.03]))
    assert metrics["loss"].shape == (3, 20)
    assert np.all(np.isnan(sick_metrics["loss"][1, 1:]))
    healthy = jnp.array([0, 2])
    take = lambda tree: jax.tree.map(lambda a: a[healthy], tree)  # noqa: E731
    assert_same_bits(take(bits(sick)), take(bits(state)))
    assert_same_bits(take(sick_metrics), take(metrics))


def test_no_steps_are_a_run_too():
    begun, hparams = start()
    state, metrics = train.fit(loss, begun, hparams, steps=0)
    assert_same_bits(bits(state), bits(begun))
    assert metrics["loss"].shape == (0,)


def test_numbers_serve_as_hyperparameters():
    by_number, _ = train.fit(loss, *start(BASE), steps=10, segment=10)
    by_array, _ = train.fit(loss, *start(as_arrays(BASE)), steps=10, segment=10)
    assert_close(by_number.params, by_array.params, 1e-6)
