"""The study of gradients forward in time: what trains, and parts of gradients by lag."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import seqcells as sc
from experiments.lab.models import Member
from experiments.studies.online import cosines, learning
from experiments.studies.online.periodic import Periodic
from seqcells import online, probes, train

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
GRU, RNN, PROBE = sc.GRU(3), sc.RNN(2), probes.DelayedRecall(3, cues=2, distractors=2)


def member():
    return Member(train.HParams(), {})


def test_rtrl_trains_with_the_loss_and_the_gradient_of_backprop():
    task = learning.task(RNN, PROBE, 4, "RTRL")
    params = task.reader.init(KEY, PROBE.input_size)
    (loss, metrics), got = jax.value_and_grad(task, has_aux=True)(params, KEY, member())
    sample = PROBE.sample(jax.random.split(KEY)[0], 4)

    def plain(params):
        return PROBE.score(task.reader(params, sample), sample.targets).loss

    expected, grads = jax.value_and_grad(plain)(params)
    assert float(loss) == float(metrics["measure"]) == pytest.approx(float(expected))
    np.testing.assert_allclose(ravel_pytree(got)[0], ravel_pytree(grads)[0], rtol=1e-4, atol=1e-6)


def test_parts_by_lag_add_up_to_the_gradient_and_those_of_rtrl_are_exact():
    params = RNN.init(KEY, 2)
    xs, dy = jax.random.normal(KEY, (3, 2, 2)), jnp.ones((2, 2))
    exact = cosines.exact_by_lag(RNN, params, xs, dy)
    got = cosines.by_lag(online.RTRL(RNN), params, xs, dy)
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-6)
    rule = online.SnAp(RNN)
    trace = rule.init(params, xs[0])
    for x in xs:
        trace, _ = rule.step(params, trace, x)
    whole = ravel_pytree(rule.gradient(params, trace, dy))[0]
    parts = cosines.by_lag(rule, params, xs, dy)
    np.testing.assert_allclose(parts.sum(0), whole, rtol=1e-4, atol=1e-6)
    found = np.asarray(cosines.cosine(parts, exact))
    assert found[0] == pytest.approx(1)  # of the last step, nothing is left out
    assert found[2] < 0.999
    assert float(cosines.cosine(jnp.zeros(2), jnp.ones(2))) == 0


def test_numbers_that_are_kept_are_counted_for_one_sequence():
    cell = sc.MinGRU(4)
    weights = sc.param_count(cell.init(KEY, 2))
    assert learning.kept(cell, "RTRL", 2) == weights + 4 + 2 + 1  # carry, x, and whether it is data
    assert learning.kept(GRU, "RTRL", 2) == 3 * sc.param_count(GRU.init(KEY, 2)) + 3 + 2 + 1
    steps = learning.window(GRU, 2)
    task = learning.task(GRU, dataclasses.replace(PROBE, cues=2, distractors=1), 4, learning.WINDOW)
    assert task.net.engine == sc.Truncated(learning.window(GRU, 4))
    assert 1 <= steps * learning.kept(GRU, learning.BACKWARD, 2) <= learning.kept(GRU, "SnAp-1", 2)


def test_the_periodic_output_is_that_of_the_paper():
    sample = Periodic(8).sample(KEY, 1)
    times = 2 * np.pi * np.arange(1, 9) / 8
    waves = np.sin(times) + np.sin(2 * times) / 2 + np.sin(4 * times) / 4
    np.testing.assert_allclose(sample.targets[:, 0], waves, atol=1e-6)
    assert np.mean(waves**2) == pytest.approx(Periodic.baseline - 1 / 32)  # sin 4t is 0 there
