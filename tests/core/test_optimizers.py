"""Optimisers: AdamW, any of Optax, and parameters in bfloat16 and float16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import train
from tests.support.laws import assert_close, dtypes
from tests.support.training import KEY, XS, as_arrays, quadratic, sgd, square


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
