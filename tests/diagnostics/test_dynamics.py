"""Dimensions, memory capacity and measures of forecasts, where they are known exactly."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import probes
from seqcells.diagnostics import (
    kaplan_yorke_dimension,
    linear_memory_capacity,
    lyapunov_exponents,
    memory_capacity,
    participation_ratio,
    power_spectrum_error,
    state_space_divergence,
)
from tests.support.laws import assert_close

pytestmark = pytest.mark.usefixtures("strict", "x64")

INF = math.inf


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [
        ([-0.5, -1.0], 0.0),  # a fixed point
        ([-1.0, 0.0], 1.0),  # a limit cycle
        ([0.906, 0.0, -14.572], 2 + 0.906 / 14.572),  # Lorenz's system
        ([math.log(2)], 1.0),  # the logistic map
        ([0.3, 0.1], 2.0),
        ([0.5, -0.1, -0.2, -0.3, -1.0], 3 + 0.2 / 0.3),
        ([0.5, -INF, -INF], 1.0),
        ([-INF, -INF], 0.0),
    ],
)
def test_the_dimension_follows_from_the_exponents(exponents, dimension):
    of = jax.jit(kaplan_yorke_dimension)
    for order in (exponents, exponents[::-1]):
        assert float(of(np.array(order))) == pytest.approx(dimension)
    several = of(np.array([exponents, [np.nan] * len(exponents)]))
    np.testing.assert_allclose(several, [dimension, np.nan])


def test_the_participation_ratio_counts_equal_directions():
    line, square = np.eye(2)[[0, 0]] * [[1], [-1]], np.concatenate([np.eye(4), -np.eye(4)])
    assert float(participation_ratio(3 * line + 5, axes=1)) == pytest.approx(1)
    assert float(participation_ratio(square, axes=1)) == pytest.approx(4)
    two = square * [1, 1, 0, 0]
    assert float(participation_ratio(two.reshape(4, 2, 4))) == pytest.approx(2)
    leaves = sc.LSTMCarry(*np.split(square.reshape(8, 1, 4), 2, axis=-1))
    assert float(participation_ratio(leaves)) == pytest.approx(4)


def reservoir(size, scale):
    rng = np.random.default_rng(0)
    return scale * np.linalg.qr(rng.normal(size=(size, size)))[0], rng.normal(size=size)


def test_a_linear_reservoir_recalls_as_much_as_it_has_units():
    w, v = reservoir(8, 0.9)
    capacity = linear_memory_capacity(w, v, 200)
    assert float(jnp.sum(capacity)) == pytest.approx(8, abs=1e-6)
    assert np.all(np.diff(capacity) < 1e-9)
    rows = np.stack([v @ np.linalg.matrix_power(w, k) for k in range(400)])
    exact = np.einsum("ki,ij,kj->k", rows, np.linalg.inv(rows.T @ rows), rows)
    assert_close(capacity, exact[:200], 1e-9)


def test_a_sampled_capacity_is_that_of_the_closed_form():
    (w, v), rng = reservoir(8, 0.9), np.random.default_rng(1)
    inputs = rng.uniform(-1, 1, 20_000)
    params = sc.RNNParams(v[None], w, None)
    cell = sc.RNN(8, "identity", bias="none")
    _, states = jax.jit(sc.unroll, static_argnums=0)(cell, params, inputs[:, None])
    sampled = memory_capacity(states[100:], inputs[100:], 40)
    exact = linear_memory_capacity(w, v, 40)
    assert float(jnp.sum(sampled)) == pytest.approx(float(jnp.sum(exact)), rel=0.02)
    np.testing.assert_allclose(sampled, exact, atol=0.03)


def test_a_delay_line_recalls_its_length_exactly():
    inputs = np.random.default_rng(0).normal(size=(50, 2))
    states = np.stack([np.roll(inputs, k, axis=0) for k in range(3)], axis=-1)
    capacity = memory_capacity(states[5:], inputs[5:], 5)
    assert_close(capacity[:3], jnp.ones(3), 1e-10)
    assert np.all(capacity[3:] < 0.2)


def test_divergence_of_two_bins_is_that_of_two_coins():
    data, generated = np.array([[0.0], [1.0]] * 4), np.array([[0.0]] * 3 + [[1.0]])
    p, q, s = np.array([0.5, 0.5]), np.array([0.75, 0.25]), 1e-3
    p, q = (p + s) / (1 + 2 * s), (q + s) / (1 + 2 * s)
    got = state_space_divergence(data, generated, 2, smoothing=s)
    assert float(got) == pytest.approx(float(np.sum(p * np.log(p / q))))
    assert float(state_space_divergence(data, data[::-1], 7)) == 0
    outside = np.array([[-5.0]] * 3 + [[9.0]])
    assert float(state_space_divergence(data, outside, 2, smoothing=s)) == pytest.approx(float(got))
    assert np.isnan(state_space_divergence(data, np.full((3, 1), np.nan)))


def test_divergence_counts_each_corner_of_the_space():
    corners = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    got = state_space_divergence(corners, corners[:1], 2, smoothing=1e-9)
    assert float(got) == pytest.approx(math.log(0.25) + 0.75 * math.log(1e9), rel=1e-6)


def waves(*frequencies):
    t = np.arange(64)[:, None]
    return sum(np.sin(2 * np.pi * f * t / 64 + f) for f in frequencies) + 3


def test_spectra_differ_by_hellingers_distance():
    for generated, distance in ((waves(4)[::-1], 0), (waves(9), 1), (waves(4, 9), 0.5)):
        exact = math.sqrt(1 - math.sqrt(0.5)) if distance == 0.5 else distance
        assert float(power_spectrum_error(waves(4), generated)) == pytest.approx(exact, abs=1e-6)
    both = power_spectrum_error(np.hstack([waves(4), waves(4)]), np.hstack([waves(4), waves(9)]))
    assert float(both) == pytest.approx(0.5, abs=1e-6)
    near, far = (power_spectrum_error(waves(4), waves(f), smoothing=2.0) for f in (5, 20))
    assert 0 < float(near) < 0.5 < float(far) < 1
    gauss = np.exp(-(np.arange(-31, 32) ** 2) / 8)  # power at 4 and 20, smoothed by hand
    shares = [gauss[32 - f : 64 - f] / gauss[32 - f : 64 - f].sum() for f in (4, 20)]
    assert float(far) == pytest.approx(math.sqrt(1 - np.sum(np.sqrt(shares[0] * shares[1]))))


def logistic(params, h, x):
    return 4 * h * (1 - h), h


SYSTEMS = {
    "logistic": (sc.FunctionCell(logistic, lambda x: jnp.full(x.shape[:-1], 0.3)), 1, 20_000),
    "henon": (probes.Henon().cell, 1, 20_000),
    "lorenz63": (probes.Lorenz63().cell, 0.01, 30_000),
    "rossler": (probes.Rossler().cell, 0.05, 400_000),
}
EXPONENTS = {
    "logistic": (math.log(2),),
    "henon": probes.Henon.EXPONENTS,
    "lorenz63": probes.Lorenz63.EXPONENTS,
    "rossler": probes.Rossler.EXPONENTS,
}


@pytest.mark.parametrize(
    "name",
    [
        "logistic",
        "henon",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("lorenz63", "rossler")),
    ],
)
def test_known_systems_have_their_exponents(name):
    cell, time, steps = SYSTEMS[name]
    tol = 0.05 if name == "rossler" else 0.02  # its first exponent takes longest to settle
    run = jax.jit(lyapunov_exponents, static_argnums=0, static_argnames="warmup")
    got = run(cell, None, np.zeros((steps, 0)), warmup=2000) / time
    for exponent, known in zip(got, EXPONENTS[name], strict=True):
        assert float(exponent) == pytest.approx(known, rel=tol, abs=0.02 if known == 0 else 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kaplan_yorke_dimension(1.0), "exponents: expected float"),
        (
            lambda: participation_ratio(np.zeros(3)),
            "carries: expected leaves",
        ),
        (lambda: memory_capacity(np.zeros((5, 2)), np.zeros(4), 2), "states, inputs: expected"),
        (lambda: memory_capacity(np.zeros((5, 4)), np.zeros(5), 2), "states: expected more than 5"),
        (lambda: linear_memory_capacity(np.eye(2), np.ones(3), 2), "w_hh, w_ih: expected"),
        (lambda: state_space_divergence(np.zeros(3), np.zeros(3)), "data: expected float"),
        (
            lambda: state_space_divergence(np.zeros((3, 2)), np.zeros((3, 1))),
            "generated: expected float.M, 2.",
        ),
        (
            lambda: state_space_divergence(np.zeros((3, 6)), np.zeros((3, 6))),
            "bins: expected at most 16 for 6 variables, got 30",
        ),
        (
            lambda: power_spectrum_error(np.zeros((8, 1)), np.zeros((9, 1))),
            "generated: expected float.8, 1., like data",
        ),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan_and_ends(lost):
    """LAPACK's decompositions need not end for infinities."""
    states = np.random.default_rng(0).normal(size=(40, 3))
    spoiled, inputs = states.copy(), states[:, 0]
    spoiled[20, 1] = lost
    assert np.all(np.isnan(memory_capacity(spoiled, inputs, 3)))
    assert np.isnan(power_spectrum_error(states, spoiled))
    assert np.all(np.isnan(linear_memory_capacity(np.full((2, 2), lost), np.ones(2), 3)))


def test_a_reservoir_that_explodes_has_no_capacity():
    assert np.all(np.isnan(linear_memory_capacity(2.0 * np.eye(2), np.ones(2), 3)))
