"""Laws of diagnostics over padding, resets and directions: a sequence has what it has alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import diagnostics as d
from seqcells import remedies
from tests.support.laws import assert_close, orthogonal

pytestmark = pytest.mark.usefixtures("strict", "x64")

T, D, H = 6, 2, 2
KEPT = 4  # steps of a sequence that are no padding


def loss(ys):
    return jnp.sum(jnp.sin(ys))  # of what is not padding: there ys are 0


def problem(model):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), D))
    params = jax.tree.map(lambda a: 0.6 * rng.normal(size=a.shape), shapes)
    return params, rng.normal(size=(T, 3, D))


BY_STEP = {  # (model, params, xs, **reading) -> [T, *B, ...], and 0 at padding
    "carry_gradient": lambda *a, **r: d.carry_gradient(*a, loss, **r),
    "gate_values": d.gate_values,
}
BY_LAG = {  # -> [T, *B, ...], the last step first, and 0 after the first step
    "gradient_by_lag": lambda *a, **r: d.gradient_by_lag(*a, loss, **r),
    "layer_gradients_by_lag": lambda *a, **r: d.layer_gradients_by_lag(*a, loss, **r),
    "jacobian_by_lag": lambda *a, **r: jax.tree.map(jnp.exp, d.jacobian_by_lag(*a, **r)),
}
WHOLE = {"lyapunov_exponents": d.lyapunov_exponents}  # -> [*B, ...]


@functools.partial(jax.jit, static_argnames=("cell", "names", "reverse", "time_axis"))
def measured(cell, names, params, xs, **reading):
    """Measures by name, in one program."""
    return {n: (BY_STEP | BY_LAG | WHOLE)[n](cell, params, xs, **reading) for n in names}


ALL = (*BY_STEP, *BY_LAG, *WHOLE)
FULL = {"lengths": np.int64(T), "mask": np.ones(T, bool)}
HOLES = np.array([True, False, True, True, False, True])
READINGS = {  # how six steps are read, and the four that a sequence alone has, in their order
    "lengths": ({"lengths": np.int64(KEPT)}, [0, 1, 2, 3]),
    "mask": ({"mask": HOLES}, [0, 2, 3, 5]),
    "reverse": ({"lengths": np.int64(KEPT), "reverse": True}, [3, 2, 1, 0]),
}


@pytest.mark.parametrize("name", READINGS)
def test_a_padded_sequence_has_what_it_has_alone(name):
    """Whatever stands in the padding."""
    reading, kept = READINGS[name]
    cell = sc.LSTM(H)
    params, xs = problem(cell)
    spoiled = np.full((T, D), np.nan)
    spoiled[kept] = xs[kept, 0]
    found = measured(cell, ALL, params, spoiled, **FULL | reading)
    alone = measured(cell, ALL, params, xs[kept, 0])
    for measure in BY_STEP:
        assert_close(jax.tree.map(lambda a: a[np.array(kept)], found[measure]), alone[measure])
        rest = np.setdiff1d(np.arange(T), kept)
        assert not any(np.any(a[rest]) for a in jax.tree.leaves(found[measure]))
    for measure in BY_LAG:
        pairs = zip(jax.tree.leaves(found[measure]), jax.tree.leaves(alone[measure]), strict=True)
        for a, expected in pairs:
            assert_close(a[: len(expected)], expected)
            assert not np.any(a[len(expected) :])
    for measure in WHOLE:
        assert_close(found[measure], alone[measure], 1e-9)


def test_at_padding_a_carry_stays_as_it_is():
    cell = sc.GRU(H)
    params, xs = problem(cell)
    steps = d.step_jacobians(cell, params, xs[:, 0], mask=HOLES)
    assert_close(steps[1], np.eye(H))
    assert np.all(steps[0] != np.eye(H))


def test_sequences_of_a_batch_have_lengths_of_their_own_and_time_its_place():
    cell = sc.GRU(H)
    params, xs = problem(cell)
    names, n = ("gradient_by_lag", "jacobian_by_lag", "carry_gradient"), np.array([T, KEPT, 0])
    found = measured(cell, names, params, xs.swapaxes(0, 1), time_axis=1, lengths=n)
    alone = measured(cell, names, params, xs[:KEPT, 1])
    assert_close(found["gradient_by_lag"][1, :KEPT], alone["gradient_by_lag"])
    assert_close(found["carry_gradient"][1, :KEPT], alone["carry_gradient"])
    assert_close(
        found["jacobian_by_lag"].log_norm[1, : KEPT + 1], alone["jacobian_by_lag"].log_norm
    )
    assert not np.any(found["gradient_by_lag"][2])
    fits = d.rate_and_horizon(found["gradient_by_lag"].T)
    assert_close(fits.rate[1], d.rate_and_horizon(alone["gradient_by_lag"]).rate, 1e-9)
    assert np.isnan(fits.rate[2])


def test_a_reset_cuts_a_sequence_in_two():
    cell, names = sc.GRU(H), (*BY_STEP, "jacobian_by_lag")
    params, xs = problem(cell)
    xs, resets, start = xs[:, 0], np.arange(T) == 4, np.full(H, 0.3)
    reading = {"resets": resets, "reset_carry": start}
    found = measured(cell, names, params, xs, **reading)
    parts = [measured(cell, names, params, part, carry=start) for part in (xs[:4], xs[4:])]
    for measure in BY_STEP:
        both = jax.tree.map(lambda a, b: np.concatenate([a, b]), *(p[measure] for p in parts))
        assert_close(found[measure], both)
    norms, second = (one["jacobian_by_lag"].log_norm for one in (found, parts[1]))
    assert_close(norms[:2], second[:2])
    assert not np.any(norms[2:])


omega = jax.jit(remedies.omega, static_argnums=(0, 3))
flossing = jax.jit(remedies.flossing, static_argnums=(0, 3), static_argnames="warmup")


@pytest.mark.slow
def test_remedies_of_a_padded_batch_are_means_over_its_sequences():
    cell = sc.GRU(H)
    params, xs = problem(cell)
    n = np.array([KEPT, KEPT, 1])
    alone = [xs[:length, b : b + 1] for b, length in enumerate(n)]
    terms = [omega(cell, params, x, loss) for x in alone]
    assert_close(omega(cell, params, xs, loss, lengths=n), np.mean(terms))
    found = flossing(cell, params, xs, 1, warmup=1, lengths=n)
    terms = [flossing(cell, params, x, 1, warmup=1) for x in alone[:2]]  # the third has one step
    assert_close(found, np.mean(terms), 1e-9)
    gradient = jax.grad(flossing, 1)(cell, params, xs, 1, warmup=1, lengths=n)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert np.isnan(d.lyapunov_exponents(cell, params, xs, 1, warmup=1, lengths=n)[2, 0])


@pytest.mark.slow
def test_omega_does_not_reach_over_a_reset():
    cell = sc.GRU(H)
    params, xs = problem(cell)
    xs, start = xs[:, 0], np.full(H, 0.3)
    total = sum(omega(cell, params, part, loss, start) for part in (xs[:4], xs[4:]))
    found = omega(cell, params, xs, loss, resets=np.arange(T) == 4, reset_carry=start)
    assert_close(found, total)


def test_a_net_that_reads_both_ways_is_read_within_its_lengths():
    net = sc.Bidirectional(sc.GRU(H), sc.GRU(H))
    params, xs = problem(net)
    xs, n = xs[:, 0], np.int64(KEPT)
    found = d.layer_gradients_by_lag(net, params, xs, loss, lengths=n)
    alone = d.layer_gradients_by_lag(net, params, xs[:KEPT], loss)
    assert_close(tuple(a[:KEPT] for a in found), alone)
    parts = d.recurrences(net, params, xs, lengths=n)
    for part, expected in zip(parts, d.recurrences(net, params, xs[:KEPT]), strict=True):
        assert_close(part.xs[:KEPT], expected.xs)


def test_exponents_of_a_net_are_those_of_its_dense_jacobians_by_qr():
    net = sc.Stack((sc.GRU(H), sc.LSTM(H)))
    params, xs = problem(net)
    jacobians = np.asarray(d.step_jacobians(net, params, xs))
    found = d.lyapunov_exponents(net, params, xs, warmup=2)
    for b in range(2):
        q = np.linalg.qr(np.asarray(jax.random.normal(jax.random.key(0), (3 * H, 3 * H))))[0]
        logs = []
        for jacobian in jacobians[:, b]:
            q, r = np.linalg.qr(jacobian @ q)
            logs.append(np.log(np.abs(np.diag(r))))
        assert_close(found[b], np.mean(logs[2:], axis=0), 1e-8)


def test_an_autonomous_system_has_inputs_of_size_0():
    """The logistic map at r = 4 has the exponent ln 2, for almost every start."""

    def step(params, h, x):
        h = params * h * (1 - h)
        return h, h

    chaos = sc.FunctionCell(step, lambda x: jnp.zeros_like(x, shape=(*x.shape[:-1], 1)))
    nothing, start = jnp.zeros((4000, 2, 0)), jnp.array([[0.3], [0.4]])
    found = d.lyapunov_exponents(chaos, jnp.float64(4), nothing, carry=start)
    assert_close(found, np.full((2, 1), np.log(2)), 0.02)
    path = np.asarray(sc.trajectory(chaos, jnp.float64(4), nothing[:9], start))
    assert_close(path[1:], 4 * path[:-1] * (1 - path[:-1]))


@pytest.mark.parametrize("name", ["length", "key", "engine"])
def test_an_argument_that_there_is_not_is_named(name):
    cell, params = orthogonal(0.5)
    with pytest.raises(TypeError, match=rf"^{name}: expected one of lengths, mask, .*resets"):
        d.gradient_by_lag(cell, params, np.zeros((T, D)), loss, **{name: 1})
    with pytest.raises(TypeError, match=r"^resets: expected one of lengths, mask, reverse, time"):
        d.lyapunov_exponents(cell, params, np.zeros((T, D)), resets=np.zeros(T, bool))
