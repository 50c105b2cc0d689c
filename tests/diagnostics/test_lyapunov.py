"""Laws of Lyapunov exponents."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.diagnostics import lyapunov_exponents, step_jacobians
from seqcells.diagnostics._lyapunov import orthonormal
from tests.support import laws
from tests.support.laws import CASES, FAMILIES, B, D, H, T, assert_close, draw

pytestmark = pytest.mark.usefixtures("strict", "x64")

exponents_of = jax.jit(lyapunov_exponents, static_argnums=3, static_argnames="warmup")


def log_determinants(cell, params, xs, carry=None):
    return np.linalg.slogdet(jax.jit(step_jacobians)(cell, params, xs, carry))[1]  # [T, *B]


@pytest.mark.parametrize("k", [1, 2, None])
@pytest.mark.parametrize("g", [0.5, 1.0, 1.1])
def test_a_linear_cell_with_an_orthogonal_matrix_has_the_logarithm_of_its_scale(g, k):
    exponents = exponents_of(*laws.orthogonal(g), np.ones((50, B, D)), k)
    assert_close(exponents, np.full((B, k or H), math.log(g)), 1e-10)


ONE_OF_ALL = [("lstm-bias", 4)]
ONE_OF_ALL += [
    pytest.param(name, warmup, marks=pytest.mark.slow)
    for name in FAMILIES
    for warmup in (0, 4)
    if (name, warmup) != ONE_OF_ALL[0]
]


@pytest.mark.parametrize(("name", "warmup"), ONE_OF_ALL)
def test_all_exponents_add_up_to_the_logarithm_of_the_determinant(name, warmup):
    case = CASES[name]
    problem = draw(case)
    args = (case.cell, problem.params, problem.xs)
    exponents = exponents_of(*args, warmup=warmup, carry=problem.carry)
    expected = log_determinants(*args, problem.carry)[warmup:].mean(axis=0)
    assert_close(jnp.sum(exponents, axis=-1), expected, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_few_are_the_first_of_all(name):
    case = CASES[name]
    problem = draw(case)
    args = (case.cell, problem.params, problem.xs)
    assert_close(exponents_of(*args, 2), exponents_of(*args)[:, :2], 1e-10)


def test_at_a_fixed_point_they_are_the_logarithms_of_the_eigenvalues_in_order():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(H, H)))[0]
    w_hh = rotation * [0.9, -0.5, 0.2] @ rotation.T  # symmetric, so J has real eigenvalues
    params = sc.RNNParams(rng.normal(size=(D, H)), w_hh, None)
    args = (sc.RNN(H, bias="none"), params, np.full((400, D), 0.3))
    exponents = exponents_of(*args, warmup=300)
    moduli = np.abs(np.linalg.eigvals(np.asarray(step_jacobians(*args)[-1])))
    assert_close(exponents, np.sort(np.log(moduli))[::-1], 1e-10)


def test_the_fastest_unit_is_found_where_units_do_not_touch_each_other():
    speeds = np.array([0.2, 0.9, 0.5])
    params = sc.IndRNNParams(np.ones((D, H)), speeds, None)
    args = (sc.IndRNN(H, "identity", bias="none"), params, np.ones((300, D)))
    assert_close(exponents_of(*args, 2, warmup=200), np.log([0.9, 0.5]), 1e-10)


def test_a_direction_that_is_lost_has_minus_infinity():
    params = sc.IndRNNParams(np.ones((D, H)), np.array([0.0, 0.9, 0.5]), None)
    args = (sc.IndRNN(H, "identity", bias="none"), params, np.ones((300, D)))
    exponents = exponents_of(*args, warmup=200)
    assert_close(exponents[:2], np.log([0.9, 0.5]), 1e-10)
    assert np.isneginf(exponents[2]) or exponents[2] < -30  # rounding may leave 1e-17 of it


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)], ids=str)
def test_every_sequence_of_a_batch_has_its_own(batch):
    problem = draw(CASES["lstm-bias"], batch)
    exponents = exponents_of(sc.LSTM(H), problem.params, problem.xs, 2)
    assert exponents.shape == (*batch, 2)
    if batch and 0 not in batch:
        last = (slice(None), *(n - 1 for n in batch))
        alone = lyapunov_exponents(sc.LSTM(H), problem.params, problem.xs[last], 2)  # and eagerly
        assert_close(exponents[last[1:]], alone, 1e-10)


def test_it_may_be_mapped_over_nets():
    problems, many = laws.draw_many(CASES["gru-after-double"])
    cell, xs = sc.GRU(H), jnp.asarray(problems[0].xs)
    measured = jax.jit(jax.vmap(lambda params: lyapunov_exponents(cell, params, xs, 2)))(many)
    assert_close(measured[2], exponents_of(cell, problems[2].params, xs, 2), 1e-10)


def test_narrow_inputs_have_wide_exponents():
    problem = jax.tree.map(jnp.float32, draw(CASES["gru-after-double"]))
    exponents = lyapunov_exponents(sc.GRU(H), problem.params, problem.xs.astype("bfloat16"))
    assert exponents.dtype == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn-tanh-bias", "gru-after-double", "lstm-bias"])
def test_their_derivative_is_the_finite_difference(name):
    case = CASES[name]
    problem = draw(case)
    weight = jnp.arange(1.0, 3.0)

    def total(params):
        found = lyapunov_exponents(case.cell, params, problem.xs, 2, warmup=1, carry=problem.carry)
        return jnp.sum(found * weight)

    way = draw(case, seed=1).params
    total = jax.jit(total)
    ends = (jax.tree.map(lambda a, b, s=s: a + s * b, problem.params, way) for s in (1e-6, -1e-6))
    up, down = map(total, ends)
    gradient = jax.jit(jax.grad(total))(problem.params)
    along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, way)))
    assert float(along) == pytest.approx(float(up - down) / 2e-6, rel=1e-7)


def test_columns_that_are_all_but_parallel_become_orthonormal():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 1)) + 1e-6 * rng.normal(size=(20, 8))
    q, lengths = jax.jit(orthonormal)(a)
    assert_close(q.T @ q, np.eye(8), 1e-13)
    assert_close(lengths, np.abs(np.diag(np.linalg.qr(a)[1])), 1e-10)


def test_the_directions_do_not_depend_on_the_length():
    problem = draw(CASES["rnn-tanh-bias"])
    args = (CASES["rnn-tanh-bias"].cell, problem.params)
    whole = exponents_of(*args, problem.xs, warmup=T - 1)  # the last step alone
    parts = [exponents_of(*args, problem.xs[:n]) * n for n in (T, T - 1)]
    assert_close(whole, parts[0] - parts[1], 1e-10)
