"""Random keys: none is used twice, by JAX's own check and by what was drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import initializers, sweep, train
from tests.probes.test_probes import CASES as PROBES
from tests.support.laws import CASES, FAMILIES, D, T

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
NORMAL = initializers.Normal()


@pytest.fixture(autouse=True)
def _checked():
    """Let JAX raise where a key is used twice."""
    with jax.debug_key_reuse(True):
        yield


def test_the_check_finds_a_key_that_is_used_twice():
    def twice(key):
        return jax.random.normal(key) + jax.random.uniform(key)

    with pytest.raises(jax.errors.KeyReuseError):
        jax.jit(twice)(jax.random.key(0))


LAYERS = {name: CASES[name].cell for name in FAMILIES}
LAYERS |= {
    "stack": sc.Stack((sc.GRU(3), sc.Bidirectional(sc.LSTM(3), sc.GRU(3)), sc.Residual(sc.RNN(6)))),
    "learned": sc.Recurrent(sc.LSTM(3), learned_carry=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_drawn_with_keys_of_their_own(name):
    jax.jit(LAYERS[name].init, static_argnums=1)(jax.random.key(0), D)


NOISY = {
    "dropout": sc.VariationalDropout(sc.LSTM(3), 0.3, 0.3),
    "zoneout": sc.Zoneout(sc.LSTM(3), (0.3, 0.3)),
    "both": sc.Zoneout(sc.VariationalDropout(sc.LSTM(3), 0.3, 0.3), (0.3, 0.3)),
}


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_drawn_with_keys_of_its_own(name):
    cell = NOISY[name]
    params = cell.init(jax.random.key(1), D)
    unroll = jax.jit(lambda key: sc.unroll(cell, params, jnp.ones((T, D)), key=key))
    unroll(jax.random.key(0))
    net = sc.Stack((cell, sc.GRU(3)), 0.3)
    params = net.init(jax.random.key(1), D)
    jax.jit(lambda key: sc.unroll(net, params, jnp.ones((T, D)), key=key))(jax.random.key(0))


@pytest.mark.parametrize("name", PROBES)
def test_probes_are_drawn_with_keys_of_their_own(name):
    probe, data = PROBES[name].probe, PROBES[name].data
    jax.jit(lambda key: probe.sample(key, 2, *data))(jax.random.key(0))


def seen(params, key, hparams):
    """A loss that tells what it was given: the first bits of the step's key."""
    bits = jax.random.bits(key)
    loss = jnp.sum(params["w"] ** 2) * hparams["scale"]
    return loss, {"upper": bits >> 16, "lower": bits & 0xFFFF}


def make():
    optimizer = lambda hparams: train.optax.sgd(0.1)  # noqa: E731
    return sweep.from_loss(seen, lambda key, _: {"w": NORMAL(key, (2,), jnp.float32)}, optimizer)


def test_every_member_has_a_key_of_its_own_at_every_step_and_for_its_parameters():
    members, steps = 16, 10
    some = sweep.Space(scale=[0.5, 1.0], seed=range(members // 2))
    result = sweep.run(make, some, steps, segment=1)
    drawn = {(line["metrics"]["upper"], line["metrics"]["lower"]) for line in result.history}
    assert len(result.history) == len(drawn) == members * steps
    first = [line["metrics"]["grad_norm"] for line in result.history if line["step"] == 1]
    assert len(set(first)) == members


def test_members_of_a_fit_have_keys_of_their_own_at_every_step():
    members, steps = 16, 10

    def start(key):
        return train.init({"w": jnp.ones(2)}, {"scale": 1.0}, key, sgd)

    def sgd(hparams):
        return train.optax.sgd(0.1)

    state = jax.vmap(start)(jax.random.split(jax.random.key(3), members))
    hparams = {"scale": jnp.ones(members)}
    options = {"segment": 5, "optimizer": sgd, "transform": jax.vmap}
    _, metrics = train.fit(seen, state, hparams, steps, **options)
    drawn = np.stack([metrics["upper"], metrics["lower"]], -1).reshape(-1, 2)
    assert len(np.unique(drawn, axis=0)) == members * steps
