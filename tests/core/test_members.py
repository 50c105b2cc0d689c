"""Members trained together: each has the bits, or the values, that it has alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqcells import train
from tests.support.laws import assert_close, assert_same_bits
from tests.support.training import BASE, KEY, as_arrays, bits, loss, square, start

SWEEPS = {
    "learning_rate": [1e-3, 1e-2, 3e-2],
    "max_norm": [1e-3, 0.1, np.inf],
    "b1": [0.0, 0.5, 0.9],
    "b2": [0.9, 0.99, 0.999],
    "eps": [1e-8, 1e-4, 1.0],
    "weight_decay": [0.0, 0.1, 1.0],
}


def short_run(hparams):
    def far(params, key, hparams):  # from where each hyperparameter makes a difference
        return jnp.sum(jnp.square(jnp.sin(params) + 0.1 * jax.random.normal(key, (3,)))), {}

    state = train.init(jnp.array([1.0, -2.0, 0.5]), hparams, KEY)
    return train.run(far, state, hparams, 10)[0].params


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
    ends = [np.asarray(run) for run in looped]
    assert np.abs(ends[0] - ends[1]).max() > 1e-7  # the hyperparameter is read
    assert np.abs(ends[1] - ends[2]).max() > 1e-7


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


def test_members_that_are_done_stay_as_they_are_while_others_train():
    rates = train.HParams(learning_rate=jnp.float32([0.1, 0.01, 0.05]))
    keys = jax.random.split(KEY, 3)
    params = jnp.float32([3, 2, 1])
    begun = jax.vmap(train.init, (0, train.HParams(0, *[None] * 5), 0))(params, rates, keys)
    seen = []

    def on_segment(state, metrics):
        seen.append(np.asarray(state.step).tolist())
        return np.arange(3) < len(seen)  # one more each time

    def fit(on_segment, steps):
        return train.fit(
            square, begun, rates, steps, segment=2, on_segment=on_segment, transform=by_rate
        )

    end, metrics = fit(on_segment, 100)
    assert seen == [[2, 2, 2], [2, 4, 4], [2, 4, 6]]
    for member, steps in enumerate((2, 4, 6)):
        alone, losses = fit(None, steps)
        pick = lambda tree: jax.tree.map(lambda a: a[member], bits(tree))  # noqa: B023, E731
        assert_same_bits(pick(end), pick(alone))
        assert_same_bits(metrics["loss"][member, :steps], losses["loss"][member])
        assert np.isnan(metrics["loss"][member, steps:]).all()
    for wrong in (np.ones(2, bool), np.zeros(3)):
        with pytest.raises(ValueError, match=r"on_segment: expected .*bool\[3\], got"):
            fit(lambda *_: wrong, 4)  # noqa: B023


def by_rate(segment):
    return jax.vmap(segment, (0, train.HParams(0, *[None] * 5)))


def test_keys_that_share_bits_under_vmap_are_refused():
    def start(impl):
        keys = jax.random.split(jax.random.key(0, impl=impl), 2)
        return jax.vmap(lambda key: train.init(jnp.ones(()), train.HParams(), key))(keys)

    def fit(state):
        hparams = jax.tree.map(lambda a: jnp.full(2, a), train.HParams())
        return train.fit(square, state, hparams, 1, transform=jax.vmap)

    for impl in ("rbg", "unsafe_rbg"):
        with pytest.raises(ValueError, match=f"state.key: expected a threefry2x32 key.* {impl}"):
            fit(start(impl))
    raw = start("threefry2x32")
    fit(raw._replace(key=jax.random.key_data(raw.key)))
    alone = train.init(jnp.ones(()), train.HParams(), jax.random.key(0, impl="rbg"))
    train.fit(square, alone, train.HParams(), 1)
