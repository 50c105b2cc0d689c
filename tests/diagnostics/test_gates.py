"""Laws of gates, their shares and their timescales."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import seqcells as sc
from seqcells.diagnostics import gate_shares, gate_values, saturation, timescales
from seqcells.initializers import Chrono, zeros
from tests.support.laws import CASES, FORMS, B, D, H, T, assert_close, draw, run_trajectory

pytestmark = pytest.mark.usefixtures("strict", "x64")

values_of = jax.jit(gate_values)
shares_of = jax.jit(gate_shares)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gated_step(cell, p, gates, h, x):
    """A step of GRU or MGU that takes its gates from outside."""
    z, r = gates.get("z", gates.get("f")), gates.get("r", gates.get("f"))
    bias, bias_hh = (0.0 if b is None else b[-H:] for b in (p.b_ih, p.b_hh))
    w, u = p.w_ih[:, -H:], p.w_hh[:, -H:]
    mixed = r * (h @ u + bias_hh) if cell.reset_after else (r * h) @ u + bias_hh
    return (1 - z) * h + z * np.tanh(x @ w + bias + mixed)


def lstm_step(cell, p, gates, carry, x):
    g = np.tanh((x @ p.w_ih + carry.h @ p.w_hh + (0 if p.b is None else p.b))[..., 2 * H : 3 * H])
    c = gates["f"] * carry.c + gates["i"] * g
    return sc.LSTMCarry(gates["o"] * np.tanh(c), c)


def layernorm_step(cell, p, gates, h, x):
    def normal(a, scale, shift):
        centred = a - np.mean(a, axis=-1, keepdims=True)
        return centred / np.sqrt(np.var(a, axis=-1, keepdims=True) + 1e-6) * scale + shift

    drive = normal(x @ p.cell.w_ih[:, -H:], p.drive_scale[2], p.drive_shift[2])
    mixed = normal(h @ p.cell.w_hh[:, -H:], p.mixed_scale[2], p.mixed_shift[2])
    return (1 - gates["z"]) * h + gates["z"] * np.tanh(drive + gates["r"] * mixed)


def sums(p, h, x):
    return x @ p.w_ih + h @ p.w_hh + (0 if p.b is None else p.b)


def janet_step(cell, p, gates, h, x):
    s, g = np.split(sums(p, h, x), 2, axis=-1)
    return gates["f"] * h + sigmoid(cell.beta - s) * np.tanh(g)


def ligru_step(cell, p, gates, h, x):
    n = sums(p, h, x)[..., H:]
    return (1 - gates["z"]) * h + gates["z"] * np.maximum(n, 0)


def coupled_step(cell, p, gates, carry, x):
    g = np.tanh(sums(p, carry.h, x)[..., H : 2 * H])
    c = gates["f"] * carry.c + (1 - gates["f"]) * g
    return sc.LSTMCarry(gates["o"] * np.tanh(c), c)


def antisymmetric_step(cell, p, gates, h, x):
    m = h @ (p.w_hh - p.w_hh.T) - cell.gamma * h
    return h + cell.eps * gates.get("z", 1) * np.tanh(m + x @ p.w_ih + p.b)


def slstm_step(cell, p, gates, carry, x):
    i, _, z, _ = np.split(sums(p, carry.h, x), 4, axis=-1)
    kept = np.log(gates["f"]) + carry.m
    m = np.where(carry.n == 0, i, np.maximum(i, kept))
    c, n = (
        np.exp(kept - m) * old + np.exp(i - m) * new
        for old, new in ((carry.c, np.tanh(z)), (carry.n, 1))
    )
    n = np.maximum(n, 1)
    return sc.SLSTMCarry(gates["o"] * c / n, c, n, m)


EQUATIONS = {
    sc.GRU: gated_step,
    sc.MGU: gated_step,
    sc.LSTM: lstm_step,
    sc.LayerNorm: layernorm_step,
    sc.JANET: janet_step,
    sc.LiGRU: ligru_step,
    sc.CoupledLSTM: coupled_step,
    sc.AntisymmetricRNN: antisymmetric_step,
    sc.SLSTM: slstm_step,
}
UNGATED = ("antisymmetric-plain", "slstm-nobias", "lstm-proj")  # no gate; heads; another h
GATED = [name for name in FORMS if type(CASES[name].cell) in EQUATIONS and name not in UNGATED]


@pytest.mark.parametrize("name", GATED)
def test_with_these_gates_the_equations_give_the_next_carry(name):
    """A candidate that reads r, and a carry that reads z, are wrong where one of them is."""
    case, problem = CASES[name], draw(CASES[name])
    gates = values_of(case.cell, problem.params, problem.xs, problem.carry)
    after = run_trajectory(case.cell, problem.params, problem.xs, problem.carry, {})
    carry = problem.carry
    for t in range(T):
        now = {gate: np.asarray(value[t]) for gate, value in gates.items()}
        step = EQUATIONS[type(case.cell)]
        carry = step(case.cell, problem.params, now, carry, problem.xs[t])
        assert_close(carry, jax.tree.map(lambda a, t=t: a[t], after), 1e-10)


def test_a_mingru_has_one_gate_which_reads_the_input():
    problem = draw(CASES["mingru-identity-bias"])
    params = problem.params
    z = sigmoid(problem.xs @ params.w_ih[:, :H] + params.b[:H])
    gates = values_of(sc.MinGRU(H), params, problem.xs)
    assert_close(gates, {"z": z}, 1e-10)


@pytest.mark.parametrize("wrap", [sc.Zoneout, sc.VariationalDropout])
def test_a_wrapped_cell_has_the_gates_of_the_cell_within(wrap):
    problem = draw(CASES["lstm-bias"], steps=1)  # of one step: zoneout makes another carry of it
    wrapped = values_of(wrap(sc.LSTM(H)), problem.params, problem.xs, problem.carry)
    assert_close(wrapped, values_of(sc.LSTM(H), problem.params, problem.xs, problem.carry))


@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_biases_set_by_hand_are_the_gates(batch):
    bias = np.array([-4.0, 0.0, 4.0, 3.0, -3.0, 0.5, 0.0, 0.0, 0.0])  # r of 3 units, z, n
    params = sc.GRUParams(np.zeros((D, 9)), np.zeros((3, 9)), bias / 4, 0.75 * bias)
    gates = values_of(sc.GRU(3), params, np.ones((T, *batch, D)))
    expected = {"r": sigmoid(bias[:3]), "z": sigmoid(bias[3:6])}
    for name, value in expected.items():
        assert_close(gates[name], np.broadcast_to(value, (T, *batch, 3)), 1e-10)
    r, z = shares_of(gates["r"]), shares_of(gates["z"])
    assert_close((r.closed, r.open), (np.array([1.0, 0, 0]), np.array([0, 0, 1.0])))
    assert_close((z.closed, z.open), (np.array([0, 1.0, 0]), np.array([1.0, 0, 0])))
    assert_close(z.mean, expected["z"], 1e-10)


def test_shares_count_the_steps_that_a_mask_lets_count():
    values = np.array([[0.01, 0.051], [0.99, 0.951], [0.049, 0.949], [0.5, 0.5]])
    mask = np.array([True, True, True, False])
    shares = shares_of(values, mask)
    assert_close(shares.closed, np.array([2 / 3, 0]))
    assert_close(shares.open, np.array([1 / 3, 1 / 3]))
    assert_close(shares.mean, values[:3].mean(axis=0))
    assert_close(shares_of(values).closed, np.array([0.5, 0]))
    assert np.all(np.isnan(shares_of(values, np.zeros(4, bool)).mean))


def test_saturation_is_the_share_of_large_carries_on_either_side():
    carries = np.array([[[0.96, 0.1], [-0.99, 0.94]], [[0.5, -0.2], [0.949, -0.951]]])
    assert_close(saturation(carries), np.array([0.5, 0.25]))
    assert_close(saturation(carries, 0.3), np.array([1.0, 0.5]))
    mask = np.array([[True, True], [False, False]])
    assert_close(saturation(carries, mask=mask), np.array([1.0, 0.0]))


def test_what_is_at_a_bound_is_not_beyond_it():
    shares = shares_of(np.array([[0.05, 0.95]]))
    assert_close((shares.closed, shares.open), (np.zeros(2), np.zeros(2)))
    assert_close(saturation(np.array([[0.5, -0.5, 0.51]]), 0.5), np.array([0, 0, 1.0]))


def test_saturation_of_an_rnn_whose_bias_saturates_one_unit():
    params = sc.RNNParams(np.zeros((D, 2)), np.zeros((2, 2)), np.array([-2.0, 1.0]))  # tanh: -.96
    carries = sc.trajectory(sc.RNN(2), params, np.ones((T, B, D)))
    assert_close(jax.jit(saturation)(carries), np.array([1.0, 0.0]))


def test_timescales_of_the_default_forget_share():
    """With z = 0.119 as the guide has it, 7.88 and 8.39 steps: a bias of -2."""
    scales = tuple(jax.jit(timescales)(jnp.array([[sigmoid(-2.0)]])))
    exact = -1 / math.log(sigmoid(2.0))
    assert_close(scales, (np.array([[exact]]), np.array([[1 + math.exp(2)]])), 1e-10)
    assert [round(float(steps[0, 0]), 2) for steps in scales] == [7.88, 8.39]


def test_a_value_falls_by_e_in_the_exact_timescale():
    z = np.array([1e-9, 0.01, 0.3, 0.9])
    assert_close((1 - z[1:]) ** np.asarray(timescales(z).exact)[1:], np.full(3, 1 / math.e), 1e-10)
    assert float(timescales(z).exact[0]) == pytest.approx(1e9, rel=1e-8)  # ln(1 - z) would round
    assert np.all(np.isposinf(timescales(np.zeros(1))))
    assert_close(tuple(timescales(np.ones(1))), (np.zeros(1), np.ones(1)))


def chrono_gru(t_max):
    cell = sc.GRU(2000, b_ih_init=(zeros, Chrono(t_max), zeros), w_hh_init=zeros)
    return cell, cell.init(jax.random.key(0), input_size=1)


@pytest.mark.parametrize("t_max", [10, 500])
def test_chrono_makes_timescales_uniform_up_to_t_max(t_max):
    """The bias alone: at zero input and a fresh carry."""
    z = values_of(*chrono_gru(t_max), np.zeros((1, 1)))["z"][0]
    tallec = np.asarray(timescales(z).tallec)
    assert stats.kstest(tallec, stats.uniform(2, t_max - 2).cdf).pvalue > 0.01
    assert stats.kstest(tallec, stats.uniform(2, 1.2 * t_max - 2).cdf).pvalue < 1e-6


def test_timescales_of_data_average_over_what_the_gates_read():
    cell, params = chrono_gru(100)
    xs = np.random.default_rng(0).normal(size=(T, B, 1))
    z = values_of(cell, params, xs)["z"]
    bias = values_of(cell, params, np.zeros((1, 1)))["z"][0]
    w_z = np.asarray(params.w_ih)[:, 2000:4000]
    logit = np.log(bias / (1 - bias)) + xs @ w_z
    assert_close(timescales(z).tallec, 1 + np.exp(-logit), 1e-5)
