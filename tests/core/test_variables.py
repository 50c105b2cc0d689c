"""What is trained: floating parameters, and a state that the model changes itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqcells import train
from tests.support.training import KEY, XS


def test_a_model_changes_a_state_of_its_own_which_no_optimiser_sees():
    def loss(variables, key, hparams):
        params, state = variables
        mean = 0.9 * state["mean"] + 0.1 * params
        new = {"mean": mean, "count": state["count"] + 1, "key": jax.random.split(state["key"])[0]}
        return jnp.square(params), {"count": state["count"]}, new

    variables = train.Variables(
        jnp.float32(2), {"mean": jnp.float32(0), "count": jnp.uint32(0), "key": KEY}
    )
    optimizer = lambda h: optax.sgd(0.1)  # noqa: E731
    state = train.init(variables, None, KEY, optimizer)
    mesh = jax.make_mesh((1,), ("data",))
    ends = [train.fit(loss, state, None, 3, optimizer=optimizer, mesh=m) for m in (None, mesh)]
    param, mean, key = 2.0, 0.0, KEY
    for _ in range(3):
        mean, param, key = 0.9 * mean + 0.1 * param, param - 0.2 * param, jax.random.split(key)[0]
    for end, metrics in ends:
        np.testing.assert_allclose(end.params.params, param, 1e-5)
        np.testing.assert_allclose(end.params.state["mean"], mean, 1e-5)
        assert (int(end.params.state["count"]), end.params.state["key"]) == (3, key)
        assert metrics["count"].tolist() == [0, 1, 2]


def test_a_net_of_flax_with_dropout_and_batch_norm_is_trained():
    nnx = pytest.importorskip("flax.nnx")
    net = nnx.Sequential(
        nnx.Linear(1, 4, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
    )
    graph, params, rest = nnx.split(net, nnx.Param, ...)

    def loss(variables, key, hparams):
        model = nnx.merge(graph, *variables)
        value = jnp.mean(jnp.square(model(XS[0, :, :1]) - 1))
        return value, {}, nnx.split(model, nnx.Param, ...)[2]

    hparams = train.HParams(0.1)
    state = train.init(train.Variables(params, rest), hparams, KEY)
    state, metrics = train.run(loss, state, hparams, 5)
    assert len(set(metrics["loss"].tolist())) == 5
    after = nnx.merge(graph, *state.params)
    assert int(after.layers[2].rngs.count[...]) == 5
    assert not np.array_equal(after.layers[1].mean[...], net.layers[1].mean[...])
    for wrong, named in ((nnx.state(net), "layers.1.mean, a BatchStat"), (rest, "BatchStat")):
        with pytest.raises(
            TypeError, match=f"params: expected floating .* got .*{named}; .*Variables"
        ):
            train.init(wrong, hparams, KEY)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": {"n": jnp.uint32(1)}}, r"a.n uint32\[\]; .* train.Variables"),
        ({"key": KEY}, "key key<fry>"),
        ({"flag": True}, "flag True"),
        ({"params": jnp.ones(1), "batch_stats": jnp.ones(1)}, "got batch_stats; .*Variables"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_the_name_of_its_leaf(params, message):
    with pytest.raises(TypeError, match=f"params: expected .*{message}"):
        train.init(params, train.HParams(), KEY)


@pytest.mark.parametrize(
    ("new", "error", "message"),
    [
        (None, TypeError, r"\(scalar, dict of further scalars, new state\), got 2 values"),
        ({"n": jnp.float32(1)}, ValueError, r"n: int32\[\].*n: float32\[\]"),
        ({"m": jnp.int32(1)}, ValueError, "a new state like"),
    ],
)
def test_a_loss_that_returns_another_state_is_refused(new, error, message):
    def loss(variables, key, hparams):
        return (variables.params, {}) if new is None else (variables.params, {}, new)

    state = train.init(train.Variables(jnp.ones(()), {"n": jnp.int32(0)}), train.HParams(), KEY)
    with pytest.raises(error, match=message):
        train.run(loss, state, train.HParams(), 1)
    state = train.init(jnp.ones(()), train.HParams(), KEY)
    with pytest.raises(TypeError, match=r"got 3 values; a state needs train\.Variables"):
        train.run(lambda p, *_: (p, {}, None), state, train.HParams(), 1)
