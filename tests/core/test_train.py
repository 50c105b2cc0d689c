"""Laws of a training run: segments change no bit, and every step has its key."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqcells import train
from tests.support.laws import assert_close, assert_same_bits
from tests.support.training import BASE, KEY, as_arrays, bits, loss, quadratic, sgd, square, start


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


def test_runs_with_other_keys_are_other_runs():
    states = [train.init(jnp.zeros(2), train.HParams(), jax.random.key(seed)) for seed in (0, 1)]
    assert np.any(bits(states[0]).key != bits(states[1]).key)


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


def test_steps_do_not_overflow_their_count():
    state = train.init(jnp.ones(()), train.HParams(), KEY)._replace(step=jnp.int32(2**31 - 2))
    with pytest.raises(ValueError, match="steps: expected at most 2147483647 in all, got 2 after"):
        train.fit(square, state, train.HParams(), 2)


def test_no_steps_are_a_run_too():
    begun, hparams = start()
    state, metrics = train.fit(loss, begun, hparams, steps=0)
    assert_same_bits(bits(state), bits(begun))
    assert metrics["loss"].shape == (0,)


def test_numbers_serve_as_hyperparameters():
    by_number, _ = train.fit(loss, *start(BASE), steps=10, segment=10)
    by_array, _ = train.fit(loss, *start(as_arrays(BASE)), steps=10, segment=10)
    assert_close(by_number.params, by_array.params, 1e-6)
