"""What is particular to the cells that are steps of a differential equation, and to sLSTM."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import B, D, H, assert_close, assert_same_bits

XS = jax.random.normal(jax.random.key(0), (20, B, D))


@pytest.mark.parametrize("engine", [sc.Scan(), sc.Deferred(keep=("slopes",), product="rows")])
def test_a_rate_unit_whose_time_constant_is_the_step_is_an_rnn_to_the_bit(engine):
    cell, rnn = sc.CTRNN(H, tau=7.0, dt=7.0), sc.RNN(H)
    params = cell.init(jax.random.key(1), D)
    plain = sc.RNNParams(*params[:3])

    def run(cell, params):
        def loss(params):
            carry, ys = sc.unroll(cell, params, XS, engine=engine)
            return jnp.sum(jnp.sin(ys)), (carry, ys)

        (_, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return out, tuple(gradient[:3])

    assert_same_bits(run(cell, params), run(rnn, plain))


def test_without_input_a_unit_decays_as_its_time_constant_says():
    taus = (4.0, 10.0, 50.0)
    for form in ("rate", "current"):
        cell = sc.CTRNN(H, "identity", tau=taus, dt=2.0, form=form, w_hh_init=sc.initializers.zeros)
        params = cell.init(jax.random.key(0), D)
        carry, _ = sc.unroll(cell, params, jnp.zeros((5, D)), jnp.ones(H))
        assert_close(carry, (1 - 2.0 / np.array(taus)) ** 5, 1e-6)


@pytest.mark.parametrize("learn_tau", [False, True])
@pytest.mark.parametrize("form", ["rate", "current"])
def test_noise_comes_from_the_key_and_has_the_stated_size(form, learn_tau):
    """The stationary variance of a linear unit without recurrence: noise^2 2 / (2 - a)."""
    tau, dt, noise = 10.0, 2.0, 0.5
    options = {"tau": tau, "dt": dt, "form": form, "learn_tau": learn_tau}
    cell = sc.CTRNN(200, "identity", noise=noise, w_hh_init=sc.initializers.zeros, **options)
    params, xs = cell.init(jax.random.key(0), 1), jnp.zeros((400, 20, 1))
    silent = sc.unroll(cell, params, xs)
    assert not np.any(silent[1])
    one, again, other = (
        sc.unroll(cell, params, xs, key=jax.random.key(seed))[1] for seed in (0, 0, 1)
    )
    assert_same_bits(one, again)
    assert np.any(one != other)
    expected = noise**2 * 2 / (2 - dt / tau)
    assert abs(np.var(np.asarray(one)[100:]) / expected - 1) < 0.03
    assert type(sc.select_engine(cell, xs)) is type(sc.select_engine(sc.RNN(200), xs))


def test_noise_leaves_the_derivative_exact():
    cell = sc.CTRNN(H, noise=0.3, learn_tau=True)
    params = cell.init(jax.random.key(0), D)

    def loss(params, engine):
        return jnp.sum(sc.unroll(cell, params, XS, key=jax.random.key(1), engine=engine)[1] ** 2)

    got, expected = (jax.grad(loss)(params, engine) for engine in (None, sc.Scan()))
    assert_close(got, expected, 1e-5)


def test_a_learned_time_constant_below_the_step_counts_as_the_step():
    cell = sc.CTRNN(H, tau=1.0, dt=1.0, learn_tau=True)
    params = cell.init(jax.random.key(0), D)
    short = params._replace(tau_log=params.tau_log - 3)
    assert_same_bits(sc.unroll(cell, short, XS), sc.unroll(cell, params, XS))


def test_a_step_of_unicornn_keeps_volume():
    cell = sc.UnICORNN(H, dt=0.7)
    params = cell.init(jax.random.key(0), D)
    flat, back = jax.flatten_util.ravel_pytree(cell.init_carry(XS[0, 0]))

    def step(flat):
        return jax.flatten_util.ravel_pytree(cell.step(params, back(flat), XS[0, 0])[0])[0]

    assert abs(np.linalg.det(jax.jacobian(step)(flat + 0.3)) - 1) < 1e-5


def test_the_recurrent_matrix_of_an_antisymmetric_rnn_turns_and_damps():
    cell = sc.AntisymmetricRNN(H, gamma=0.2, eps=1.0)
    params = cell.init(jax.random.key(0), D)
    w = np.asarray(cell.mix(params, jnp.eye(H))) - 0.2 * np.eye(H)
    assert_close(np.linalg.eigvals(w).real, np.full(H, -0.2), 1e-5)


def test_a_constant_in_all_input_gates_of_slstm_leaves_its_output():
    cell = sc.SLSTM(6, heads=2)
    params = cell.init(jax.random.key(0), D)
    more = params._replace(b=params.b.at[:6].add(3.0))
    assert_close(sc.unroll(cell, more, XS)[1], sc.unroll(cell, params, XS)[1], 1e-5)


def test_an_input_gate_of_200_stays_finite_also_in_the_gradient():
    cell = sc.SLSTM(6)
    params = cell.init(jax.random.key(0), D)
    for bias in (200.0, -200.0):
        large = params._replace(b=params.b.at[:6].set(bias))
        value, gradient = jax.value_and_grad(lambda p: jnp.sum(sc.unroll(cell, p, XS)[1]))(large)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_a_fresh_row_of_slstm_beside_one_that_goes_on_is_as_by_itself():
    cell = sc.SLSTM(6)
    params = cell.init(jax.random.key(0), D)
    resets = jnp.zeros((20, B), bool).at[7, 1].set(True)
    _, together = sc.unroll(cell, params, XS, resets=resets)
    _, alone = sc.unroll(cell, params, XS[7:, 1])
    assert_close(together[7:, 1], alone, 1e-5)
