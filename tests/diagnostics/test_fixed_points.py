"""Fixed points: exact ones of small nets, what they say of a step, and what was not found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.diagnostics import draw_starts, fixed_points, step_jacobians
from tests.support.laws import CASES, FAMILIES, assert_close, draw

pytestmark = pytest.mark.usefixtures("strict", "x64")

METHODS = pytest.mark.parametrize("method", ["newton", "adam"])
A = 0.9575040240772687  # tanh 2a = a
PAIR = sc.RNN(2, bias="none")
PAIR_PARAMS = sc.RNNParams(np.zeros((1, 2)), np.array([[1.0, -1.0], [-1.0, 1.0]]), None)
NO_INPUT = np.zeros(1)


def starts(count=40, size=2, scale=1.0):
    return scale * np.random.default_rng(0).normal(size=(count, size))


@METHODS
def test_two_units_that_inhibit_each_other_have_three(method):
    points = fixed_points(PAIR, PAIR_PARAMS, NO_INPUT, starts(), method=method)
    order = np.argsort(points.carry[:, 0])
    assert_close(points.carry[order], np.array([[-A, A], [0, 0], [A, -A]]), 1e-9)
    assert points.kinds[order].tolist() == ["stable", "saddle", "stable"]
    assert points.unstable[order].tolist() == [0, 1, 0]
    assert points.converged.all()
    assert points.starts.sum() == 40
    sizes = np.array([2 * (1 - A**2), 2, 2 * (1 - A**2)])  # twice the slope of tanh, and 0
    assert_close(np.abs(points.eigenvalues[order]), np.stack([sizes, 0 * sizes], axis=-1), 1e-8)
    assert_close(points.time_constants[order][:, 0], 1 / np.abs(np.log(sizes)), 1e-7)


@METHODS
def test_a_linear_cell_has_one_with_the_eigenvalues_of_its_matrix(method):
    rng = np.random.default_rng(1)
    u, x = 0.5 * rng.normal(size=(3, 3)), rng.normal(size=2)
    params = sc.RNNParams(rng.normal(size=(2, 3)), u, rng.normal(size=3))
    points = fixed_points(sc.RNN(3, "identity"), params, x, starts(size=3), method=method)
    wanted = np.linalg.solve(np.eye(3) - u.T, x @ params.w_ih + params.b)
    assert_close(points.carry, wanted[None], 1e-8)
    assert np.all(np.diff(np.abs(points.eigenvalues[0])) <= 0)
    pairs = points.eigenvalues[0], np.linalg.eigvals(u)
    assert_close(*(np.sort_complex(np.round(values, 10)) for values in pairs), 1e-8)
    assert_close(points.jacobian[0], u.T, 1e-12)


@pytest.mark.parametrize(
    "name",
    ["lstm-bias", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "lstm-bias")],
)
def test_speeds_and_jacobians_are_those_of_a_step(name):
    """Also where the search ends early, and with a carry of several leaves."""
    case = CASES[name]
    problem = draw(case)
    x, carry = problem.xs[0, 0], problem.carry  # the batch axis of the carry is that of starts
    options = {"slow": np.inf, "distinct": 0.0, "max_steps": 3, "tol": 0.0}
    points = fixed_points(case.cell, problem.params, x, carry, **options)
    count = len(points.speed)
    assert count == points.starts.sum() == len(jax.tree.leaves(carry)[0])
    xs = np.broadcast_to(x, (1, count, *x.shape))
    assert_close(points.speed, speeds(case.cell, problem.params, xs, points.carry), 1e-12)
    wanted = step_jacobians(case.cell, problem.params, xs, points.carry)[0]
    assert_close(points.jacobian, wanted, 1e-10)
    assert np.all(points.speed < np.sort(speeds(case.cell, problem.params, xs, carry)))


def speeds(cell, params, xs, carry):
    """Half the squares of how far one step moves the carries."""
    after, _ = sc.unroll(cell, params, xs, carry)
    pairs = zip(jax.tree.leaves(after), jax.tree.leaves(carry), strict=True)
    moved = [np.reshape((a - b) ** 2, (xs.shape[1], -1)) for a, b in pairs]
    return np.sum(np.concatenate(moved, axis=-1), axis=-1) / 2


LAYERS = [sc.Stack((sc.GRU(2), sc.LSTM(2))), sc.Residual(sc.GRU(3))]


@pytest.mark.parametrize("model", LAYERS, ids=repr)
def test_a_layer_that_steps_has_them_too(model):
    params = model.init(jax.random.key(0), 3)
    params = jax.tree.map(lambda a: a.astype(float), params)
    carry = model.init_carry(np.zeros((5, 3)), params)
    carry = jax.tree.map(lambda a: a + np.random.default_rng(0).normal(size=a.shape), carry)
    points = fixed_points(model, params, np.zeros(3), carry)
    still, _ = model.step(params, points.carry, np.zeros((len(points.speed), 3)))
    assert_close(still, points.carry, 1e-10)


def test_starts_that_end_nowhere_are_counted():
    cell = sc.FunctionCell(lambda params, h, x: (h + 1.0, h), lambda x: jnp.zeros(x.shape[:-1]))
    points = fixed_points(cell, None, NO_INPUT, np.arange(3.0))
    assert points.failed == 3
    assert points.carry.shape == (0,)
    assert points.eigenvalues.shape == (0, 1)
    with_nan = starts()
    with_nan[::4] = np.nan
    assert fixed_points(PAIR, PAIR_PARAMS, NO_INPUT, with_nan).failed == 10


def test_a_slow_point_is_kept_where_it_is_asked_for():
    """u + (u^2 + c) / 10 is slowest at 0, where its speed is c^2 / 200, and v follows u."""

    def step(params, h, x):
        u, v = h[..., 0], h[..., 1]
        return jnp.stack([u + 0.1 * (u**2 + 0.1), v + 0.5 * (u - v)], axis=-1), u

    cell = sc.FunctionCell(step, lambda x: jnp.zeros((*x.shape[:-1], 2)))
    for method, most in (("newton", None), ("adam", 20_000)):
        args = cell, None, NO_INPUT, np.array([[-0.3, 0.1], [0.2, 0.5], [0.7, -0.4]])
        assert fixed_points(*args, method=method).failed == 3
        points = fixed_points(*args, method=method, slow=1e-4, max_steps=most)
        assert_close(points.carry, np.zeros((1, 2)), 1e-4)
        assert_close(points.speed, np.array([0.01**2 / 2]), 1e-9)
        assert not points.converged.any()
        assert points.starts.tolist() == [3]


def test_points_far_from_the_starts_are_left_out():
    rows = 0.01 * starts()
    rows[0] = 0.6, -0.6  # 0.5 from the point where it ends; the spread is 0.13
    every = fixed_points(PAIR, PAIR_PARAMS, NO_INPUT, rows)
    assert every.starts.tolist() == [39, 1] or every.starts.tolist() == [1, 39]
    kept = fixed_points(PAIR, PAIR_PARAMS, NO_INPUT, rows, within=2.0)
    assert_close(kept.carry, np.zeros((1, 2)), 1e-9)
    assert (every.far, kept.far) == (0, 1)


def test_points_closer_than_distinct_are_one():
    points = fixed_points(PAIR, PAIR_PARAMS, NO_INPUT, starts(), distinct=10.0)
    assert points.starts.tolist() == [40]


def test_some_of_the_points():
    points = fixed_points(PAIR, PAIR_PARAMS, NO_INPUT, starts())
    stable = points.pick(points.kinds == "stable")
    assert stable.carry.shape == (2, 2)
    assert stable.failed == points.failed


def test_starts_are_drawn_from_trajectories():
    carries = sc.LSTMCarry(np.arange(12.0).reshape(3, 2, 2), np.arange(6.0).reshape(3, 2, 1))
    drawn = draw_starts(jax.random.key(0), carries, 50)
    rows = {(*h, *c) for h, c in zip(np.asarray(drawn.h), np.asarray(drawn.c), strict=True)}
    assert rows == {(2.0 * i, 2.0 * i + 1, float(i)) for i in range(6)}
    noisy = draw_starts(jax.random.key(0), np.zeros((4, 2, 3)), 20_000, noise=0.5)
    assert_close(np.std(noisy, axis=0), np.full(3, 0.5), 0.02)
    with pytest.raises(ValueError, match=r"carries: expected leaves with the same first 2 axes"):
        draw_starts(jax.random.key(0), np.zeros(3), 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 1))}, r"x: expected one input without batch axes"),
        ({"starts": np.zeros((4, 3))}, r"starts: expected .*\[4, 2\]"),
        ({"starts": np.zeros(2)}, r"starts: expected one carry or more"),
        ({"method": "sgd"}, r"method: expected one of 'newton', 'adam'"),
        ({"tol": -1.0}, r"tol: expected a number of at least 0"),
        ({"slow": 1e-40}, r"slow: expected a number above tol"),
        ({"within": 0.0}, r"within: expected a number above 0"),
        ({"params": sc.RNNParams(np.zeros((1, 2)), np.zeros((3, 3)), None)}, r"params: RNN"),
    ],
)
def test_a_wrong_argument_is_named(change, message):
    given = {"params": PAIR_PARAMS, "x": NO_INPUT, "starts": starts()} | change
    with pytest.raises(ValueError, match=message):
        fixed_points(PAIR, **given)


def test_a_complex_carry_is_refused():
    def step(params, h, x):
        return h, h.real

    cell = sc.FunctionCell(step, lambda x: jnp.zeros(x.shape[:-1], complex))
    with pytest.raises(TypeError, match=r"model: expected one with a real carry"):
        fixed_points(cell, None, NO_INPUT, np.zeros(3, complex))
