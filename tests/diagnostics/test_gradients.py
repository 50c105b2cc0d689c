"""Laws of the gradient by lag and of the horizon fitted to it."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import seqcells as sc
from seqcells.diagnostics import carry_gradient, gradient_by_lag, rate_and_horizon, step_jacobians
from tests.support import laws
from tests.support.laws import CASES, FAMILIES, B, D, H, T, assert_close, draw, last_sum, one_number

pytestmark = pytest.mark.usefixtures("strict", "x64")

by_lag = jax.jit(gradient_by_lag, static_argnums=3)
by_step = jax.jit(carry_gradient, static_argnums=3)
fitted = jax.jit(rate_and_horizon, static_argnums=1)

BUILT_IN = [name for name in FAMILIES if name != "function"]


TELLING = ("gru-after-double", "lstm-bias")  # the others are slow
over_built_in = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in TELLING)) for n in BUILT_IN]
)


def weighted(ys):
    return ys[-1] @ jnp.arange(1.0, H + 1)


@pytest.mark.parametrize("g", [0.5, 1.0, 1.1])
def test_a_linear_cell_with_an_orthogonal_matrix_gives_powers_of_its_scale(g):
    norms = by_lag(*laws.orthogonal(g), np.ones((50, D)), last_sum)
    assert_close(norms, math.sqrt(H) * g ** np.arange(50.0), 1e-10)
    assert float(fitted(norms).rate) == pytest.approx(g, rel=1e-10)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bias_z", [-3.0, 0.0, 2.0])
def test_a_gru_without_weights_forgets_what_it_overwrites(reset_after, bias_z):
    bias = np.repeat([0.0, bias_z, 0.0], H)
    params = sc.GRUParams(np.zeros((D, 3 * H)), np.zeros((H, 3 * H)), bias, None)
    cell = sc.GRU(H, reset_after=reset_after, bias="single")
    norms = by_lag(cell, params, np.ones((20, B, D)), one_number)
    kept = 1 - 1 / (1 + math.exp(-bias_z))  # z is what is written
    assert_close(norms[:, 1], kept ** np.arange(20.0), 1e-10)
    assert not np.any(np.delete(norms, 1, axis=1))  # the loss looks at one sequence


@over_built_in
def test_the_gradient_equals_the_product_of_jacobians(name):
    case = CASES[name]
    problem = draw(case, batch=())
    cell, params, xs = case.cell, problem.params, problem.xs
    flat, back = ravel_pytree(problem.carry)
    step = jax.jit(lambda h, x: ravel_pytree(cell.step(params, back(h), x)[0])[0])
    slopes, jacobians = jax.jit(jax.jacrev(step)), []
    for x in xs:  # row by row, backward, where step_jacobians goes column by column, forward
        jacobians.append(np.asarray(slopes(flat, x)))
        flat = step(flat, x)
    assert_close(jax.jit(step_jacobians)(cell, params, xs, problem.carry), np.stack(jacobians))
    drive = cell.project(params, xs[-1])
    last = jax.grad(lambda h: weighted(cell.read(params, back(h), drive)[None]))
    expected = [np.asarray(last(flat))]  # dL/dh_{T-1}, then one step back at a time
    for jacobian in jacobians[:0:-1]:
        expected.append(expected[-1] @ jacobian)
    args = (cell, params, xs, weighted, problem.carry)
    leaves = [leaf.reshape(T, -1) for leaf in jax.tree.leaves(by_step(*args))]
    assert_close(np.concatenate(leaves, axis=1), np.stack(expected[::-1]))
    assert_close(by_lag(*args), np.linalg.norm(expected, axis=1))


@over_built_in
def test_a_loss_of_all_outputs_is_differentiated_in_total(name):
    """A nudge of h_1 moves its own output and, through the steps after it, all others."""
    case = CASES[name]
    problem = draw(case)
    cell, params, xs = case.cell, problem.params, problem.xs

    def loss(ys):
        return jnp.sum(jnp.sin(ys) * problem.weigh_ys)

    def after_first(h):
        _, ys = sc.unroll(cell, params, xs[1:], h)
        y = cell.read(params, h, cell.project(params, xs[0]))
        return loss(jnp.concatenate([y[None], ys]))

    first = jax.jit(lambda h: cell.step(params, h, jnp.asarray(xs[0]))[0])(problem.carry)
    gradient = by_step(cell, params, xs, loss, problem.carry)
    assert_close(jax.tree.map(lambda a: a[0], gradient), jax.jit(jax.grad(after_first))(first))


def test_without_a_carry_the_fresh_one_is_taken():
    problem = draw(CASES["gru-after-double"])
    args = (sc.GRU(H), problem.params, problem.xs, last_sum)
    assert_close(by_lag(*args), by_lag(*args, np.zeros((B, H))))


@pytest.mark.parametrize("batch", [(), (B,), (2, 3)], ids=str)
def test_every_sequence_of_a_batch_has_its_own_norms(batch):
    problem = draw(CASES["gru-after-double"], batch)
    first = (slice(None), *(0,) * len(batch))
    norms = by_lag(sc.GRU(H), problem.params, problem.xs, last_sum)
    assert norms.shape == (T, *batch)
    alone = by_lag(sc.GRU(H), problem.params, problem.xs[first], last_sum)
    assert_close(norms[first], alone)


def test_it_may_be_differentiated_where_a_norm_is_zero():
    problem = draw(CASES["gru-after-double"])

    def total(params):
        return jnp.sum(gradient_by_lag(sc.GRU(H), params, problem.xs, one_number))  # 1 of B

    gradient = jax.jit(jax.grad(total))(problem.params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert np.any(gradient.w_hh)


@pytest.mark.parametrize("shape", [(0, B), (T, 0)], ids=["T=0", "B=0"])
def test_nothing_has_no_gradient(shape):
    params = draw(CASES["gru-after-double"]).params
    norms = jax.eval_shape(
        lambda xs: gradient_by_lag(sc.GRU(H), params, xs, jnp.sum), jnp.zeros((*shape, D))
    )
    assert norms.shape == shape


def test_narrow_inputs_have_a_wide_gradient():
    problem = jax.tree.map(jnp.float32, draw(CASES["gru-after-double"]))
    xs, carry = problem.xs.astype("bfloat16"), problem.carry.astype("bfloat16")
    gradient = jax.eval_shape(
        lambda xs: carry_gradient(sc.GRU(H), problem.params, xs, jnp.sum, carry), xs
    )
    assert gradient.dtype == "float32"


def test_it_may_be_jitted_and_mapped():
    problems, many = laws.draw_many(CASES["gru-after-double"])
    cell, xs = sc.GRU(H), jnp.asarray(problems[0].xs)

    @jax.jit
    @jax.vmap
    def measured(params):
        norms = gradient_by_lag(cell, params, xs, last_sum)
        return norms, rate_and_horizon(norms)

    norms, fit = measured(many)
    expected = gradient_by_lag(cell, problems[2].params, xs, last_sum)  # and eagerly
    assert_close(norms[2], expected)
    assert_close(jax.tree.map(lambda a: a[2], fit), rate_and_horizon(expected), 1e-10)


class Two(NamedTuple):
    fast: jax.Array
    slow: jax.Array


@dataclasses.dataclass(frozen=True)
class TwoSpeeds(sc.Cell):
    """Two memories that decay at rates of their own: a carry of two leaves."""

    def init(self, key, input_size):
        return jnp.array([0.5, 0.9])

    def init_carry(self, x, params=None):
        return Two(jnp.zeros_like(x[..., 0]), jnp.zeros_like(x[..., :1]))

    def project(self, params, x):
        return jnp.sum(x, axis=-1)

    def recur(self, params, carry, drive):
        return Two(params[0] * carry.fast + drive, params[1] * carry.slow + drive[..., None])

    def read(self, params, carry, drive):
        return jnp.stack([carry.fast, carry.slow[..., 0]], axis=-1)


@pytest.mark.parametrize("batch", [(), (B,)], ids=str)
def test_the_norm_is_taken_over_all_leaves_of_a_carry(batch):
    xs = jnp.ones((T, *batch, D))
    norms = by_lag(TwoSpeeds(), jnp.array([0.5, 0.9]), xs, last_sum)
    lags = np.arange(T, dtype=float).reshape(-1, *[1] * len(batch))
    assert_close(norms, np.broadcast_to(np.sqrt(0.25**lags + 0.81**lags), (T, *batch)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_norm_underflows_before_the_gradient_does(dtype):
    """A square would: of 1e-30 in float32 it is 0."""
    cell = sc.RNN(2, "identity", bias="none", dtype=dtype)
    params = sc.RNNParams(jnp.ones((1, 2), dtype), jnp.eye(2, dtype=dtype) * 0.1, None)
    steps = 36 if dtype == "float32" else 300
    xs = jnp.ones((steps, 1), dtype)
    norms = by_lag(cell, params, xs, last_sum)
    assert_close(np.log10(norms), np.log10(2) / 2 - np.arange(steps, dtype=dtype), 1e-4)


def test_a_function_cell_has_no_gradient_by_lag_and_says_so():
    case = CASES["function"]
    problem = draw(case)
    with pytest.raises(TypeError, match="FunctionCell"):
        gradient_by_lag(case.cell, problem.params, jnp.asarray(problem.xs), last_sum)


@pytest.mark.parametrize("rate", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("window", [None, (2, 17)])
def test_an_exponential_has_its_rate_and_horizon(rate, window):
    norms = np.stack([7.0 * rate ** np.arange(20.0), 1e-200 * rate ** np.arange(20.0)], axis=1)
    fit = fitted(norms, window)
    assert_close(fit.rate, np.full(2, rate), 1e-9)
    assert_close(fit.horizon, np.full(2, -1 / math.log(rate)), 1e-9)


def test_a_window_fits_its_own_lags_alone():
    norms = np.concatenate([0.5 ** np.arange(10.0), 0.5**9 * 0.9 ** np.arange(1, 11.0)])
    assert float(fitted(norms, (0, 9)).rate) == pytest.approx(0.5)
    assert float(fitted(norms, (9, 19)).rate) == pytest.approx(0.9)


def test_the_fit_is_least_squares():
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(size=30))
    slope, _ = np.polyfit(np.arange(30), np.log(norms), 1)
    assert float(fitted(norms).rate) == pytest.approx(math.exp(slope), rel=1e-10)


@pytest.mark.parametrize("lost", [0.0, 1e-320])
def test_lags_that_have_underflowed_are_left_out(lost):
    norms = 0.5 ** np.arange(20.0)
    norms[[3, 15, 16, 17, 18, 19]] = lost
    assert float(fitted(norms).rate) == pytest.approx(0.5, rel=1e-10)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_lag_that_is_not_finite_is_not_left_out(bad):
    norms = 0.5 ** np.arange(20.0)
    norms[15] = bad
    assert all(map(np.isnan, fitted(norms)))
    assert float(rate_and_horizon(norms, (0, 14)).rate) == pytest.approx(0.5, rel=1e-10)


@pytest.mark.parametrize("rate", [1.0, 1.5])
def test_where_nothing_decays_the_horizon_is_infinite(rate):
    fit = fitted(rate ** np.arange(10.0))
    assert float(fit.rate) == pytest.approx(rate)
    assert np.isposinf(fit.horizon)


@pytest.mark.parametrize("usable", [0, 1])
def test_fewer_than_two_usable_lags_give_nan(usable):
    fit = fitted(np.where(np.arange(5) < usable, 1.0, 0.0))
    assert np.isnan(fit.rate)
    assert np.isnan(fit.horizon)


@pytest.mark.parametrize("window", [(0, 5), (3, 3), (4, 2), (-1, 2)], ids=str)
def test_a_window_outside_the_lags_is_refused(window):
    with pytest.raises(ValueError, match="window"):
        rate_and_horizon(np.ones(5), window)
