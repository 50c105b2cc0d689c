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
    def far(params, key, hparams):  # from where each hyperparameter makes a difference
        return jnp.sum(jnp.square(jnp.sin(params) + 0.1 * jax.random.normal(key, (3,)))), {}

    state = train.init(jnp.array([1.0, -2.0, 0.5]), hparams, KEY)
    return train.run(far, state, hparams, 10)[0].params


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
    ends = [np.asarray(run) for run in looped]
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("learning_rate", -0.1), ("learning_rate", np.inf), ("max_norm", 0.0), ("max_norm", -1)),
        *(("b1", 1.0), ("b2", 1), ("b1", -0.1), ("eps", -1e-8), ("weight_decay", -0.1)),
        *(("learning_rate", 1e39), ("eps", 1e-50), ("weight_decay", 1e-40), ("max_norm", 1e39)),
        *(("learning_rate", np.nan), ("b2", np.float32([0.9, 1.0]))),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"^{field}: expected .*numbers.*, got "):
        train.init(jnp.ones(2), train.HParams(**{field: value}), KEY)
    train.adamw(train.HParams(learning_rate=0, max_norm=np.inf, b1=0.0, eps=0.0))


def square(params, key, hparams):
    return jnp.sum(jnp.square(params.astype(jnp.float32))), {}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_parameters_move_by_updates_below_their_last_bit(dtype):
    """The state adds up to the float32 parameters, so both runs are one but for their rounding."""
    hparams, ends = train.HParams(), []
    for one in (dtype, jnp.float32):
        params = {"w": jnp.ones(3, one), "wide": jnp.ones(2)}
        state = train.init(params, hparams, KEY, lambda h: optax.sgd(1e-5))
        loss = lambda p, *_: (square(p["w"], *_)[0] + p["wide"].sum(), {})  # noqa: E731
        ends.append(train.run(loss, state, hparams, 400, lambda h: optax.sgd(1e-5))[0])
    narrow, wide = ends
    assert narrow.params["w"].dtype == dtype
    exact = (1 - 2e-5) ** 400
    np.testing.assert_allclose(wide.params["w"], exact, 1e-5)
    np.testing.assert_allclose(
        narrow.params["w"].astype(jnp.float32) + narrow.remainder["w"], exact, 1e-4
    )
    np.testing.assert_array_equal(narrow.params["w"], jnp.asarray(exact, dtype))
    assert narrow.remainder["wide"] is None
    assert wide.remainder == ()


def needy(hparams):
    """An optimiser that reads all that Optax's own may: the loss, its gradient and itself."""

    def update(updates, state, params, *, value, grad, value_fn):
        slope = jax.grad(value_fn)(jax.tree.map(lambda a: a + 1, params))
        step = lambda g, u, s: -0.1 * value / (1 + value) * (g + u) - 0.01 * s  # noqa: E731
        return jax.tree.map(step, grad, updates, slope), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [
        (needy, jnp.float32),
        (needy, jnp.bfloat16),
        (lambda h: optax.chain(needy(h), sc.remedies.project_spectral_norm(9.0, "w")), jnp.float32),
        pytest.param(lambda h: optax.lbfgs(), jnp.float32, marks=pytest.mark.slow),
    ],
)
def test_an_optimiser_that_wants_the_loss_gets_it(optimizer, dtype):
    """As in a plain loop, which passes value, gradient and function."""
    params = {"w": jnp.arange(1.0, 4.0).astype(dtype)}

    def value_fn(p):
        return square(p["w"], None, None)[0]

    loss = lambda p, key, h: (value_fn(p), {})  # noqa: E731
    state = train.init(params, None, KEY, optimizer)
    state, _ = train.run(loss, state, None, 3, optimizer)
    full, rounded = jax.tree.map(lambda a: a.astype(jnp.float32), params), params
    opt_state = optimizer(None).init(full)
    for _ in range(3):
        value, grads = jax.value_and_grad(value_fn)(rounded)
        grads = jax.tree.map(lambda a: a.astype(jnp.float32), grads)
        updates, opt_state = optimizer(None).update(
            grads,
            opt_state,
            full,
            value=value,
            grad=grads,
            value_fn=lambda p: value_fn(jax.tree.map(lambda a: a.astype(dtype), p)),
        )
        full = optax.apply_updates(full, updates)
        rounded = jax.tree.map(lambda a: a.astype(dtype), full)
    np.testing.assert_allclose(
        state.params["w"].astype(np.float32), rounded["w"].astype(np.float32), 1e-5
    )


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
