"""Laws of mean-field theory, and nets that are wide enough to follow it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import seqcells as sc
from seqcells.diagnostics import critical_weight_std, gradient_by_lag, mean_field, rate_and_horizon

pytestmark = pytest.mark.usefixtures("strict", "x64")

PAIRS = [(1.2, 0.1), (0.5, 0.3), (1.0, 1e-3), (1.5, 0.0), (3.0, 2.0), (9.0, 20.0)]


def gaussian_mean(function, q):
    def weighed(x):
        return function(math.sqrt(q) * x) * math.exp(-x * x / 2) * math.sqrt(2 / math.pi)

    # Where tanh bends, the integrand needs looking at.
    return integrate.quad(weighed, 0, 12, epsabs=1e-14, epsrel=1e-13, points=[1 / math.sqrt(q)])[0]


def test_the_published_point():
    q, chi, depth = mean_field(1.2, 0.1)
    assert round(float(q), 3) == 0.489
    assert round(float(chi), 2) == 0.86
    assert float(depth) == pytest.approx(-1 / math.log(chi), rel=1e-12)


@pytest.mark.parametrize(("sw", "su2"), PAIRS)
def test_the_integrals_are_those_of_scipy(sw, su2):
    q, chi, _ = map(float, mean_field(sw, su2))
    assert q > 0
    settled = sw**2 * gaussian_mean(lambda a: math.tanh(a) ** 2, q) + su2
    assert q == pytest.approx(settled, rel=1e-11)
    assert chi == pytest.approx(sw**2 * gaussian_mean(lambda a: math.cosh(a) ** -4, q), rel=1e-11)


@pytest.mark.parametrize("sw", [0.0, 0.5, 0.99])
def test_without_an_input_a_net_with_small_weights_falls_silent(sw):
    q, chi, _ = mean_field(sw, 0.0)
    assert float(q) < 1e-15
    assert float(chi) == pytest.approx(sw**2, rel=1e-12)


def test_where_nothing_decays_the_depth_is_infinite():
    assert np.isposinf(mean_field(1.5, 0.0).depth)


@pytest.mark.parametrize("su2", [1e-6, 0.01, 0.1, 1.0, 10.0, 100.0])
def test_at_the_critical_weights_chi_is_one(su2):
    sw = critical_weight_std(su2)
    assert float(mean_field(sw, su2).chi) == pytest.approx(1, abs=1e-11)
    assert float(sw) > 1


def test_without_an_input_the_critical_weights_are_one():
    assert float(critical_weight_std(0.0)) == pytest.approx(1, abs=1e-7)


@pytest.mark.slow
def test_they_may_be_jitted_and_mapped_and_keep_a_dtype():
    sw, su2 = jnp.float32([1.2, 0.5, 0.8]), jnp.float32([0.1, 0.3, 1.0])
    one = jax.jit(jax.vmap(mean_field, (0, None)))(sw, su2)
    at_once = mean_field(sw[:, None], su2)
    for a, b in zip(one, at_once, strict=True):
        assert a.shape == (3, 3)
        assert a.dtype == "float32"
        np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(one.q, mean_field(np.float64(sw)[:, None], np.float64(su2)).q, 1e-5)
    critical = jax.jit(jax.vmap(critical_weight_std))(su2)
    assert critical.dtype == "float32"
    np.testing.assert_allclose(critical, critical_weight_std(np.float64(su2)), rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [lambda a: mean_field(a, 0.1).q, lambda a: mean_field(1.2, a).chi, critical_weight_std],
    ids=["q", "chi", "critical"],
)
def test_their_derivatives_are_finite_differences(function):
    difference = (function(0.7 + 1e-6) - function(0.7 - 1e-6)) / 2e-6
    assert float(jax.jit(jax.grad(function))(0.7)) == pytest.approx(float(difference), rel=1e-7)


N, STEPS, SETTLED = 512, 70, 30
LAGS = 25


@functools.partial(jax.jit, static_argnums=0)
def simulated(init, key, su2):
    """Drive one net with white noise; return the variance of its sums, and gradients by lag."""
    k_w, k_x, k_loss = jax.random.split(key, 3)
    w_hh = init(k_w, (N, N), "float32")
    params = sc.RNNParams(jnp.sqrt(su2) * jnp.eye(N, dtype="float32"), w_hh, None)
    cell, xs = sc.RNN(N, bias="none"), jax.random.normal(k_x, (STEPS, N), "float32")
    drive, carries = cell.project(params, xs), sc.trajectory(cell, params, xs)
    sums = drive[1:] + cell.mix(params, carries[:-1])
    reading = jax.random.normal(k_loss, (N,), "float32")
    norms = gradient_by_lag(cell, params, xs, lambda ys: jnp.vdot(ys[-1], reading))
    return jnp.mean(jnp.square(sums[SETTLED:])), jnp.square(norms[:LAGS])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "sw", "su2"),
    [
        (sc.initializers.Normal(1.2 / N**0.5), 1.2, 0.1),
        (sc.initializers.Normal(0.9 / N**0.5), 0.9, 0.3),
        (sc.initializers.Critical(0.1), float(critical_weight_std(0.1)), 0.1),
    ],
    ids=["1.2", "0.9", "critical"],
)
def test_wide_nets_that_are_driven_follow_the_theory(init, sw, su2):
    """Eight nets: q within 3 %, and chi from E||gradient||^2 ~ chi^k within 3 %."""
    found = [simulated(init, jax.random.key(seed), jnp.float32(su2)) for seed in range(8)]
    q = np.mean([q for q, _ in found])
    chi = float(rate_and_horizon(np.mean([squares for _, squares in found], axis=0)).rate)
    expected = mean_field(sw, su2)
    print(f"q {q:.4f} of {float(expected.q):.4f}, chi {chi:.4f} of {float(expected.chi):.4f}")
    assert q == pytest.approx(float(expected.q), rel=0.03)
    assert chi == pytest.approx(float(expected.chi), rel=0.03)


def test_the_critical_initialiser_draws_normal_entries_of_that_size():
    matrix = sc.initializers.Critical(0.3)(jax.random.key(0), (100, 80), "float64")
    std = float(critical_weight_std(0.3)) / 10
    assert stats.kstest(np.ravel(matrix) / std, "norm").pvalue > 0.01
