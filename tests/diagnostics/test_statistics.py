"""Laws of the gradient's signal to noise ratio, and of the curse of memory."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.diagnostics import curse_of_memory, gradient_snr
from tests.support.laws import assert_close

pytestmark = pytest.mark.usefixtures("strict", "x64")

snr_of = jax.jit(gradient_snr)


def test_the_signal_is_the_mean_over_all_ways_to_split_the_batch():
    g = np.random.default_rng(0).normal(size=(6, 3, 2))
    products = []
    for half in itertools.combinations(range(6), 3):
        rest = [i for i in range(6) if i not in half]
        products.append(np.sum(g[list(half)].mean(0) * g[rest].mean(0)))
    estimate = snr_of({"w": g})
    assert_close(estimate.signal["w"], np.mean(products), 1e-10)
    noise = np.trace(np.cov(g.reshape(6, -1), rowvar=False))
    assert_close(estimate.noise["w"], noise, 1e-10)
    assert_close(estimate.ratio["w"], np.mean(products) / noise, 1e-10)


def test_gaussian_gradients_have_the_ratio_that_they_are_drawn_with():
    """Of 20,000 batches of 4 the mean estimate is within 5 standard errors; a square is not."""
    mean, spread = np.array([0.5, -0.2, 0.1]), np.array([1.0, 2.0, 0.5])
    g = mean + spread * np.random.default_rng(0).normal(size=(20_000, 4, 3))
    many = jax.jit(jax.vmap(gradient_snr))({"a": g, "b": 10 * g})
    for name, unit in (("a", 1), ("b", 100)):
        for estimate, truth in (
            (many.signal[name], unit * np.sum(mean**2)),
            (many.noise[name], unit * np.sum(spread**2)),
        ):
            error = np.std(estimate) / math.sqrt(len(g))
            assert abs(np.mean(estimate) - truth) < 5 * error
            assert error < 0.06 * truth  # or the line above could not fail
    biased = np.sum(np.square(g.mean(axis=1)), axis=-1)
    assert abs(np.mean(biased) - np.sum(mean**2)) > 50 * np.std(biased) / math.sqrt(len(g))


def test_a_large_batch_has_the_ratio_itself():
    mean, spread = np.array([0.5, -0.2, 0.1]), np.array([1.0, 2.0, 0.5])
    g = mean + spread * np.random.default_rng(1).normal(size=(400_000, 3))
    ratio = np.sum(mean**2) / np.sum(spread**2)
    assert float(snr_of([g]).ratio[0]) == pytest.approx(ratio, rel=0.03)


def test_every_parameter_of_a_net_has_its_own():
    cell, key = sc.GRU(3), jax.random.key(0)
    params = cell.init(key, input_size=2)
    xs = jax.random.normal(key, (8, 5, 2))  # an example a row

    def loss(params, xs):
        return jnp.sum(sc.unroll(cell, params, xs)[1][-1])

    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, xs)
    estimate = snr_of(gradients)
    assert jax.tree.structure(estimate.ratio) == jax.tree.structure(params)
    alone = snr_of(gradients.w_hh)
    assert_close(estimate.noise.w_hh, alone.noise)
    same = snr_of(jax.tree.map(lambda g: jnp.broadcast_to(g[:1], g.shape), gradients))
    assert_close(same.signal.w_ih, np.sum(np.square(gradients.w_ih[0], dtype="float64")), 1e-6)


def sensitivities(decay, xs):
    """h_t and dh_t/dl of an IndRNN whose every unit keeps the share `decay`, for xs [T, B, 1]."""
    cell = sc.IndRNN(1, "identity", bias="none")

    def final(u):
        return sc.unroll(cell, sc.IndRNNParams(jnp.ones((1, 1)), u, None), xs)[1]

    return jax.jvp(final, (jnp.full(1, decay),), (jnp.ones(1),))


DECAYS = [0.0, 0.5, 0.9, -0.8]


@pytest.mark.parametrize("decay", DECAYS)
def test_the_closed_forms_are_sums_of_squared_impulse_responses(decay):
    """White noise of variance 1 has the sum of squares of what one impulse does."""
    h, dh = jax.jit(sensitivities)(decay, np.eye(600, 1)[:, None])
    curse = tuple(jax.jit(curse_of_memory)(decay))
    assert_close(curse, (np.sum(np.square(h)), np.sum(np.square(dh))), 1e-10)


@pytest.mark.parametrize("decay", DECAYS)
def test_white_noise_has_the_variance_and_sensitivity(decay):
    xs = np.random.default_rng(0).normal(size=(200, 20_000, 1))
    curse = curse_of_memory(decay)
    for sample, truth in zip(jax.jit(sensitivities)(decay, xs), curse, strict=True):
        squares = np.square(sample[-1, :, 0])
        error = np.std(squares) / math.sqrt(len(squares))
        assert abs(np.mean(squares) - float(truth)) < 4 * error + 1e-12
        assert error < 0.03 * float(truth)


def test_near_one_nothing_is_lost_and_beyond_it_there_is_no_stationary_state():
    """In float32 a rounded l^2 would make 1 - l^2 wrong by 9e-5 here."""
    near = np.float32(1 - 2897 * 2**-24)
    curse = curse_of_memory(near)
    assert curse.variance.dtype == "float32"
    assert float(curse.variance) == pytest.approx(1 / (1 - float(near) ** 2), rel=1e-6)
    assert np.all(np.isposinf(curse_of_memory(np.array([1.0, -1.0, 1.5]))))
