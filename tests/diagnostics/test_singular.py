"""Laws of the Jacobian by lag, and of the bound on it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.cells._dense import ACTIVATIONS
from seqcells.diagnostics import jacobian_by_lag, pascanu_bound, step_jacobians
from seqcells.diagnostics._singular import STEEPEST
from tests.support import laws
from tests.support.laws import CASES, FAMILIES, B, D, H, T, assert_close, draw

pytestmark = pytest.mark.usefixtures("strict", "x64")

by_lag = jax.jit(jacobian_by_lag)
bound = jax.jit(pascanu_bound)


def rotation(size=H, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


@pytest.mark.parametrize("g", [0.5, 1.0, 1.1])
@pytest.mark.parametrize("steps", [1, 3000])
def test_a_scaled_rotation_has_powers_of_its_scale(g, steps):
    """0.5^3000 and 1.1^3000 are 1e-903 and 1e+124: nothing under- or overflows."""
    params = sc.RNNParams(np.ones((D, H)), g * rotation(), None)
    logs = by_lag(sc.RNN(H, "identity", bias="none"), params, np.ones((steps, D)))
    lags = np.arange(steps + 1.0)
    assert_close(logs.log_singular_values, np.outer(lags, np.full(H, math.log(g))), 1e-10)
    assert_close(logs.log_norm, lags * math.log(g) + math.log(H) / 2, 1e-10)
    assert float(bound(sc.RNN(H, "identity"), params, 7)) == pytest.approx(g**7, rel=1e-12)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bias_z", [-3.0, 0.0, 2.0])
def test_a_gru_without_weights_keeps_what_it_does_not_overwrite(reset_after, bias_z):
    bias = np.repeat([0.0, bias_z, 0.0], H)
    params = sc.GRUParams(np.zeros((D, 3 * H)), np.zeros((H, 3 * H)), bias, None)
    logs = by_lag(sc.GRU(H, reset_after=reset_after, bias="single"), params, np.ones((20, B, D)))
    kept = 1 - 1 / (1 + math.exp(-bias_z))
    expected = np.broadcast_to(kept ** np.arange(21.0)[:, None, None], (21, B, H))
    assert_close(np.exp(logs.log_singular_values), expected, 1e-10)


def test_an_lstm_without_weights_reads_out_what_its_cell_keeps():
    """Each unit's product is f^k [[0, o sech^2(c_T)], [0, 1]]: one singular value of two is 0."""
    f, o, start = 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(0.3)), np.array([0.2, 1.0, 3.0])
    bias = np.repeat([0.0, 1.5, 0.0, -0.3], H)
    params = sc.LSTMParams(np.zeros((D, 4 * H)), np.zeros((H, 4 * H)), bias)
    carry = sc.LSTMCarry(np.ones(H), start)
    values = np.exp(by_lag(sc.LSTM(H), params, np.ones((9, D)), carry).log_singular_values)
    lags = np.arange(1.0, 10.0)
    read = np.sqrt(1 + (o / np.cosh(f**9 * start) ** 2) ** 2)
    assert_close(values[1:, :H], f ** lags[:, None] * np.sort(read)[::-1], 1e-10)
    assert_close(values[1:, H:], np.zeros((9, H)), 1e-10)
    assert_close(values[0], np.ones(2 * H))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "lstm-bias")) for n in FAMILIES]
)
def test_it_is_the_product_of_the_steps(name):
    problem = draw(CASES[name])
    args = (CASES[name].cell, problem.params, problem.xs, problem.carry)
    jacobians = np.asarray(jax.jit(step_jacobians)(*args))
    product, expected = np.broadcast_to(np.eye(jacobians.shape[-1]), jacobians.shape[1:]), []
    for jacobian in [None, *jacobians[::-1]]:
        product = product if jacobian is None else product @ jacobian
        expected.append(np.linalg.svd(product, compute_uv=False))
    logs = by_lag(*args)
    assert logs.log_singular_values.shape == (T + 1, B, jacobians.shape[-1])
    assert_close(np.exp(logs.log_singular_values), np.stack(expected), 1e-10)
    norms = np.linalg.norm(np.stack(expected), axis=-1)
    assert_close(np.exp(logs.log_norm), norms, 1e-10)


def test_what_is_forgotten_in_one_step_is_minus_infinity_and_no_nan():
    params = sc.RNNParams(np.ones((D, H)), np.zeros((H, H)), None)
    logs = by_lag(sc.RNN(H, bias="none"), params, np.ones((3, D)))
    assert np.all(np.isneginf(logs.log_norm[1:]))
    assert np.all(np.isneginf(logs.log_singular_values[1:]))


def test_no_steps_leave_the_identity():
    problem = draw(CASES["gru-after-double"])
    logs = by_lag(sc.GRU(H), problem.params, problem.xs[:0])
    assert_close(logs.log_singular_values, np.zeros((1, B, H)))


def test_it_may_be_mapped_over_weights():
    problems, many = laws.draw_many(CASES["gru-after-double"])
    xs = problems[0].xs
    logs = jax.jit(jax.vmap(lambda params: jacobian_by_lag(sc.GRU(H), params, xs)))(many)
    assert_close(jax.tree.map(lambda a: a[2], logs), by_lag(sc.GRU(H), problems[2].params, xs))


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("gain", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("diagonal", [False, True], ids=["RNN", "IndRNN"])
def test_no_jacobian_exceeds_the_bound(activation, gain, diagonal):
    rng = np.random.default_rng(1)
    size, lags = 8, np.arange(31)
    w_hh = gain * rng.normal(size=(size,) if diagonal else (size, size)) / math.sqrt(size)
    kind, values = (sc.IndRNN, sc.IndRNNParams) if diagonal else (sc.RNN, sc.RNNParams)
    params = values(rng.normal(size=(D, size)), w_hh, rng.normal(size=size))
    cell = kind(size, activation)
    largest = by_lag(cell, params, rng.normal(size=(30, B, D))).log_singular_values[..., 0]
    limit = np.log(bound(cell, params, lags))
    assert np.all(largest <= limit[:, None] + 1e-10)
    if diagonal and activation == "identity":
        assert_close(largest, np.broadcast_to(limit[:, None], largest.shape), 1e-10)


def test_a_bound_is_reached_by_a_symmetric_linear_net():
    turn = rotation()
    w_hh = turn @ np.diag([0.9, -0.5, 0.1]) @ turn.T
    params = sc.RNNParams(np.ones((D, H)), w_hh, None)
    cell = sc.RNN(H, "identity", bias="none")
    largest = by_lag(cell, params, np.ones((20, D))).log_singular_values[:, 0]
    assert_close(np.exp(largest), bound(cell, params, np.arange(21.0)), 1e-10)
    assert_close(np.exp(largest), 0.9 ** np.arange(21.0), 1e-10)


@pytest.mark.parametrize(("name", "slope"), [("tanh", 1), ("relu", 1), ("sigmoid", 0.25)])
def test_the_bound_is_the_norm_times_the_steepest_slope(name, slope):
    params = sc.RNNParams(np.ones((D, H)), 1.5 * rotation(), None)
    assert_close(bound(sc.RNN(H, name), params, 3), (1.5 * slope) ** 3)
    diagonal = sc.IndRNNParams(np.ones((D, H)), np.array([0.5, -1.5, 1.0]), None)
    assert_close(bound(sc.IndRNN(H, name), diagonal, 3), (1.5 * slope) ** 3)


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS, *STEEPEST}))
def test_no_activation_is_steeper_than_the_bound_takes_it_to_be(name):
    act = ACTIVATIONS.get(name, getattr(jax.nn, name, None))
    slopes = jax.vmap(jax.grad(act))(jnp.linspace(-10, 10, 2001))
    assert float(jnp.max(jnp.abs(slopes))) == pytest.approx(STEEPEST[name], rel=1e-12)
