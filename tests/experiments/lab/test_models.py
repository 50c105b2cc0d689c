"""The model of the studies: what is trained, and what is scored."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from experiments.lab import Cosine, Flossing, Member, Omega, Task
from seqcells import probes, train

PROBE = probes.AddingURNN(4)


@pytest.mark.parametrize(
    "penalty", [Omega(3.0), Omega(3.0, "code"), Flossing(0.5, k=2)], ids=["omega", "code", "floss"]
)
def test_a_penalty_is_added_to_what_is_trained_and_not_to_what_is_scored(penalty):
    cell = sc.RNN(3)
    plain = Task(cell, PROBE, 8)
    held = dataclasses.replace(plain, penalty=penalty)
    k_init, key = jax.random.split(jax.random.key(0))
    params, member = plain.reader.init(k_init, PROBE.input_size), Member(train.HParams(), {})
    sample = PROBE.sample(key, 8)

    def loss(ys):
        answers = sample.pick(ys) @ params.w + params.b
        return PROBE.score(answers, sample.targets).loss

    if isinstance(penalty, Omega):
        omega = sc.remedies.omega(cell, params.cell, sample.xs, loss, form=penalty.form)
        expected = penalty.weight * omega
    else:
        expected = penalty.weight * sc.remedies.flossing(cell, params.cell, sample.xs, penalty.k)
    (bare, measure), (value, same) = plain(params, key, member), held(params, key, member)
    assert float(expected) > 0
    assert float(value) == pytest.approx(float(bare + expected), rel=1e-5)
    assert measure == same == {"measure": bare}
    assert plain.score(params, key, member, 8) == held.score(params, key, member, 8)
    assert hash(held) != hash(plain)


def test_a_rate_falls_to_zero_as_half_a_cosine():
    """Adam moves a parameter with a constant gradient by the rate of the step."""
    member = Member(train.HParams(jnp.float32(0.1)), {})
    change, weight = Cosine(4)(member), jnp.float32(1.0)
    state, moved = change.init(weight), []
    for _ in range(6):
        update, state = change.update(jnp.float32(0.5), state, weight)
        moved.append(-float(update))
    np.testing.assert_allclose(moved, [0.1, 0.0853553, 0.05, 0.0146447, 0, 0], atol=1e-6)
