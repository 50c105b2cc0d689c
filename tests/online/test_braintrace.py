"""The rules, against those of braintrace: stored gradients, and live where it is installed."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from scripts import make_online_goldens as goldens
from seqcells import online


class Params(NamedTuple):
    """Parameters of `MiniGRU`; gates z|n."""

    w_ih: jax.Array  # [D, 2H]
    w_hh: jax.Array  # [H, H], of z alone
    b: jax.Array  # [2H]


@dataclasses.dataclass(frozen=True)
class MiniGRU(sc.SplitCell):
    """The cell of braintrace, whose candidate does not read the carry."""

    hidden_size: int

    UNIT_WEIGHTS = ("w_ih", "w_hh", "b")
    RECURRENT_MATRIX = "w_hh"

    def init(self, key, input_size):
        size = self.hidden_size
        shapes = ((input_size, 2 * size), (size, size), (2 * size,))
        return Params(*(jnp.zeros(shape) for shape in shapes))

    def init_carry(self, x, params=None):
        return jnp.zeros((*x.shape[:-1], self.hidden_size), x.dtype)

    def project(self, params, x):
        return tuple(jnp.split(x @ params.w_ih + params.b, 2, axis=-1))

    def mix(self, params, carry):
        return carry @ params.w_hh

    def gate(self, carry, drive, mixed):
        z = jax.nn.sigmoid(drive[0] + mixed)
        return (1 - z) * carry + z * drive[1]

    def read(self, params, carry, drive):
        return carry


CELL = MiniGRU(goldens.H)
RULES = {"eprop": online.EProp(CELL), "snap": online.SnAp(CELL), "rtrl": online.RTRL(CELL)}


def ours(rule, given):
    """Our gradient, as braintrace names its parts."""
    w_z, split = given["w_z"], goldens.D
    w_ih = np.concatenate([w_z[:split], given["w_x"]], axis=1)
    params = Params(w_ih, w_z[split:], np.concatenate([given["b_z"], given["b_x"]]))

    def step(trace, inputs):
        x, dy = inputs
        trace, _ = rule.step(params, trace, x)
        return trace, rule.gradient(params, trace, dy)

    start = rule.init(params, given["xs"][0])
    _, grads = jax.jit(lambda *xs: jax.lax.scan(step, start, xs))(given["xs"], given["dys"])
    w_ih, w_hh, b = (a.sum(0) for a in grads)
    (of_z, w_x), (b_z, b_x) = (np.split(a, 2, axis=-1) for a in (w_ih, b))
    return {"w_z": np.concatenate([of_z, w_hh]), "w_x": w_x, "b_z": b_z, "b_x": b_x}


def compare(expected, given, name):
    for part, got in ours(RULES[name], given).items():
        np.testing.assert_allclose(got, expected[f"{name}.{part}"], 1e-5, 1e-5, err_msg=part)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_that_of_braintrace(name):
    stored = np.load(goldens.PATH)
    compare(stored, stored, name)


def test_the_stored_rules_differ():
    stored = np.load(goldens.PATH)
    one, two, three = (stored[f"{name}.w_z"] for name in RULES)
    assert min(np.abs(one - two).max(), np.abs(two - three).max()) > 1e-2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The SnAp-n position analysis")  # n = H: all units
def test_the_stored_gradients_are_those_of_braintrace_today():
    pytest.importorskip("braintrace")
    given = goldens.problem()
    expected = goldens.gradients(given)
    for name in RULES:
        compare(expected, given, name)
