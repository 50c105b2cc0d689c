"""What the tests of docs/peers.md share: its tables, the inputs, and what peers get wrong alike."""

import functools
import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import seqcells as sc

PAGE = (Path(__file__).parents[2] / "docs" / "peers.md").read_text("utf-8")

B, T, D, H = 4, 6, 3, 4
XS = jax.random.normal(jax.random.key(0), (B, T, D))
LENGTHS = jnp.array([0, T, 3, 2])
BAD = XS.at[2, 3:].set(jnp.nan)  # in the padding of row 2
BFLOAT16 = jnp.bfloat16


class Table:
    """The table in a section of the page, and the cases of it that tests show."""

    def __init__(self, section):
        text = re.split(rf"^## {re.escape(section)}\b", PAGE, flags=re.M)[1].split("\n## ")[0]
        lines = re.findall(r"^\| (.*) \|$", text, re.M)
        self.header, *self.rows = [line.split(" | ") for line in lines]
        self.shown = []

    def row(self, case):
        """Say of a test that it shows the row of this case."""
        self.shown.append(case)
        return lambda test: test

    def check(self):
        """Compare the rows with the cases that tests show."""
        assert sorted(row[0] for row in self.rows) == sorted(self.shown)
        assert {len(row) for row in self.rows} == {len(self.header)}


def installed(name):
    """Import a framework, or skip; what its import warns of is not ours."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("KERAS_BACKEND", "jax")
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


class Ours:
    """`seqcells.unroll`, batch first."""

    def __init__(self, param_dtype=jnp.float32, cell=sc.GRU):
        self.cell = cell(H, param_dtype=param_dtype)
        self.params = self.cell.init(jax.random.key(0), D)

    def __call__(self, params, xs, lengths=None, carry=None, **flags):
        axis = xs.ndim - 2
        return sc.unroll(self.cell, params, xs, carry, lengths=lengths, time_axis=axis, **flags)


def ours(xs, *args, **options):
    """Run our GRU with its own parameters."""
    model = Ours()
    return model(model.params, xs, *args, **options)


def isnan(tree):
    """Whether there is NaN in any leaf."""
    return any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(tree))


def loss_and_grads(model, xs):
    """A loss of the valid steps of row 2, and its gradients."""

    def loss(params):
        _, ys = model(params, xs, LENGTHS)
        return jnp.sum(jnp.square(ys[2, :3]))

    return jax.value_and_grad(loss)(model.params)


def poisoned(model):
    """Whether NaN in the padding reaches gradients, though it does not reach the loss."""
    loss, grads = loss_and_grads(model, BAD)
    return not isnan(loss) and isnan(grads)


@functools.cache
def ours_is_inert():
    """Whether our loss and gradients are the same with NaN in the padding and without it."""
    bad, good = (loss_and_grads(Ours(), xs) for xs in (BAD, XS))
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), bad, good))


def our_sum():
    """The sum of 1000 ones in bfloat16 by a linear RNN."""
    params = sc.RNNParams(jnp.ones((1, 1)), jnp.ones((1, 1)), None)
    ones = jnp.ones((1000, 1, 1), BFLOAT16)
    return float(sc.unroll(sc.RNN(1, "identity", bias="none"), params, ones)[0][0, 0])


def our_count():
    """How far an LSTM with open gates, in bfloat16 from a bfloat16 carry, counts in 1000 steps."""
    zeros = jnp.zeros((1, 4), BFLOAT16)
    params = sc.LSTMParams(zeros, zeros, jnp.full(4, 20, BFLOAT16))
    carry = sc.LSTMCarry(jnp.zeros(1, BFLOAT16), jnp.zeros(1, BFLOAT16))
    return float(sc.unroll(sc.LSTM(1), params, jnp.ones((1000, 1), BFLOAT16), carry)[0].c[0])
