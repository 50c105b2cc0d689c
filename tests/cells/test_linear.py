"""What the tables of laws do not say of the linear cells: how they start, and where gates close."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import assert_close

KEY = jax.random.key(0)


def test_what_an_rglru_keeps_starts_uniform_between_its_ends():
    params = sc.RGLRU(4000, heads=40, a_min=0.5, a_max=0.9).init(KEY, 4000)
    kept = np.exp(-8 * np.log1p(np.exp(np.float64(params.a_param))))
    assert 0.5 - 1e-6 < kept.min() < 0.505
    assert 0.895 < kept.max() < 0.9 + 1e-6
    np.testing.assert_allclose(np.quantile(kept, [0.25, 0.5, 0.75]), [0.6, 0.7, 0.8], atol=0.01)


@pytest.mark.parametrize("cell", [sc.S5(4000), sc.Mamba(4000, state_size=3, rank=1)], ids=repr)
def test_time_steps_start_with_uniform_logarithms(cell):
    params = cell.init(KEY, 2 if isinstance(cell, sc.S5) else 4000)
    if isinstance(cell, sc.S5):
        logs = np.asarray(params.step_log)
        assert_close(params.lambda_re, np.full(4000, -0.5, "float32"))
        assert_close(params.lambda_im, np.float32(np.pi * np.arange(4000)), 1e-6)
    else:
        logs = np.log(np.log1p(np.exp(np.float64(params.b_dt))))
        assert_close(params.a_log, np.tile(np.log([1, 2, 3]), (4000, 1)), 1e-6)
        assert np.abs(params.w_dt).max() <= 1
    low, high = np.log([0.001, 0.1])
    assert low - 1e-3 < logs.min()
    assert logs.max() < high + 1e-3
    quarters = np.quantile(logs, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, np.linspace(low, high, 5)[1:-1], atol=0.1)


@pytest.mark.parametrize("cell", [sc.MinLSTM(3), sc.RGLRU(3)], ids=repr)
@pytest.mark.parametrize("closed", [-200.0, 200.0])
def test_gates_at_their_ends_have_finite_gradients(cell, closed):
    """Both gates of a minLSTM at 0, where a quotient of the two is none; and a_t = 1."""
    params = jax.tree.map(lambda a: jnp.full(a.shape, closed), cell.init(KEY, 3))
    if isinstance(cell, sc.RGLRU):  # the sums alone: with a_param, a_t would be 0
        params = params._replace(a_param=jnp.zeros(3))

    def loss(params, xs):
        return jnp.sum(sc.unroll(cell, params, xs)[1] ** 2)

    gradient = jax.grad(loss, (0, 1))(params, jnp.ones((4, 3)))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_an_rglru_writes_more_at_a_reset():
    cell = sc.RGLRU(3)
    params = cell.init(KEY, 3)
    xs, resets = jnp.ones((2, 3)), jnp.array([True, False])
    _, ys = sc.unroll(cell, params, xs, resets=resets)
    _, without = sc.unroll(cell, params, xs)
    gate = jax.nn.sigmoid(cell.project(params, xs[0])[1])
    assert_close(ys[0], gate, 1e-6)
    assert np.all(without[0] < 0.9 * ys[0])


@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
@pytest.mark.usefixtures("x64")
def test_both_discretisations_of_an_s5_tend_to_its_equation(discretisation):
    """With steps of 0.001, the answer to a constant input is that of dh/dt = lambda h + B x."""
    cell = sc.S5(5, output_size=2, skip=False, discretisation=discretisation)
    params = jax.tree.map(jnp.float64, cell.init(KEY, 1))
    params = params._replace(step_log=jnp.full(5, jnp.log(0.001)))
    carry, _ = sc.unroll(cell, params, jnp.ones((700, 1)))
    rate = params.lambda_re + 1j * params.lambda_im
    b_re, b_im = jnp.split(params.w_ih[0], 2)
    expected = (jnp.exp(0.7 * rate) - 1) / rate * (b_re + 1j * b_im)
    assert_close(carry.re + 1j * carry.im, expected, 1e-3)
