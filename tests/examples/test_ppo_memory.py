"""The example of an agent: what acts and what learns are one policy, and it learns."""

import itertools

import jax
import numpy as np
import pytest

import seqcells as sc
from examples import ppo_memory as ppo

ROWS = 32


@pytest.fixture(scope="module")
def acted():
    """Parameters, the carry that the actor started from, and its rollout."""
    params = ppo.NET.init(jax.random.key(0), ppo.CUES + 1)
    state = ppo.enter(jax.random.key(1), ROWS)
    carry = ppo.NET.init_carry(ppo.look(state), params)
    return params, carry, jax.jit(ppo.collect)(params, state, carry, jax.random.key(2))[2]


def ratios(params, carry, rollout):
    return np.asarray(ppo.loss(params, carry, rollout, rollout.reward)[1])


def test_before_anything_is_learned_the_ratio_is_1_also_where_episodes_begin(acted):
    params, carry, rollout = acted
    begun = np.asarray(rollout.resets)[1:]
    assert begun.sum() >= 100
    assert np.abs(ratios(*acted) - 1).max() < 1e-6
    for by in (1, -1):  # flags of another step
        moved = rollout._replace(resets=np.roll(rollout.resets, by, axis=0))
        assert np.abs(ratios(params, carry, moved) - 1).max() > 1e-3


def test_the_rollout_replays_to_what_the_actor_saw(acted):
    params, carry, rollout = acted
    _, ys = sc.unroll(ppo.NET, params, rollout.seen, carry, resets=rollout.resets)
    _, value, _ = ppo.heads(ys, rollout.action)
    np.testing.assert_allclose(value, rollout.value, atol=1e-6)
    done = np.roll(rollout.resets, -1, axis=0)
    args = (ppo.NET, params, rollout.seen, ys, carry)
    assert sc.debug.check_replay(*args, rollout.resets).ok
    assert sc.debug.check_replay(*args, done).shift == 1


def test_an_advantage_is_a_sum_of_discounted_errors(acted):
    _, _, rollout = acted
    after = np.arange(float(ROWS), dtype="float32")
    got = np.asarray(ppo.advantages(rollout, after))
    value, reward = np.asarray(rollout.value), np.asarray(rollout.reward)
    ends, total = np.asarray(rollout.ends), 0
    for t in reversed(range(len(value))):
        following = value[t + 1] if t + 1 < len(value) else after
        goes_on = ppo.DISCOUNT * (1 - ends[t])
        error = reward[t] + goes_on * following - value[t]
        total = error + goes_on * ppo.LAMBDA * total
        np.testing.assert_allclose(got[t], total, atol=1e-5)


def test_an_episode_shows_its_cue_once_and_asks_for_it_at_its_end(acted):
    _, _, rollout = acted
    seen, resets, ends, action = (np.asarray(a) for a in rollout[:4])
    reward = np.asarray(rollout.reward)
    lengths = []
    for row in range(ROWS):
        starts = np.flatnonzero(resets[:, row])
        for start, end in itertools.pairwise(starts):
            own = seen[start:end, row]
            cue = own[0, : ppo.CUES].argmax()
            assert own[0, : ppo.CUES].sum() == 1
            assert not own[1:, : ppo.CUES].any()
            assert own[:, ppo.CUES].tolist() == [0] * (end - start - 1) + [1]
            assert ends[start:end, row].tolist() == [False] * (end - start - 1) + [True]
            assert reward[start:end, row].tolist() == [
                *[0] * (end - start - 1),
                float(action[end - 1, row] == cue),
            ]
            lengths.append(end - start - 2)
    assert set(lengths) == set(range(ppo.SHORTEST, ppo.LONGEST + 1))


@pytest.mark.slow
def test_it_learns_to_remember(capsys):
    rewards = ppo.main(updates=25)
    assert rewards[0] < 0.65
    assert min(rewards[-5:]) > 0.95
    assert "update  25  reward 1.00  first ratios 1 within " in capsys.readouterr().out
