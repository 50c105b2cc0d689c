"""The example of an agent: what acts and what learns are one policy, and it learns."""

import itertools

import jax
import numpy as np
import pytest

import seqcells as sc
from examples import ppo_memory as ppo

SETTINGS = ppo.Settings(rows=32, steps=40)


@pytest.fixture(scope="module")
def acted():
    """A state, the rollout that it acted, and the advantages."""
    state = ppo.init(SETTINGS)
    _, rollout, advantage = jax.jit(ppo.collect, static_argnums=2)(
        state, jax.random.key(1), SETTINGS
    )
    return state, rollout, advantage


def ratios(state, rollout, advantage):
    carry = state.actor.carry
    return np.asarray(ppo.loss(state.params, carry, rollout, advantage, SETTINGS)[1])


def test_before_anything_is_learned_the_ratio_is_1_also_where_episodes_begin(acted):
    state, rollout, advantage = acted
    begun = np.asarray(rollout.resets)[1:]
    assert begun.sum() >= 100
    assert np.abs(ratios(*acted) - 1).max() < 1e-6
    for by in (1, -1):  # flags of another step
        moved = rollout._replace(resets=np.roll(rollout.resets, by, axis=0))
        assert np.abs(ratios(state, moved, advantage) - 1).max() > 1e-3


def test_the_rollout_replays_to_what_the_actor_saw(acted):
    state, rollout, _ = acted
    carry = state.actor.carry
    _, ys = sc.unroll(ppo.NET, state.params, rollout.seen, carry, resets=rollout.resets)
    _, value = ppo.heads(ys)
    np.testing.assert_allclose(value, rollout.value, atol=1e-6)
    done = np.roll(rollout.resets, -1, axis=0)
    args = (ppo.NET, state.params, rollout.seen, ys, carry)
    assert sc.debug.check_replay(*args, rollout.resets).ok
    assert sc.debug.check_replay(*args, done).shift == 1


def test_an_advantage_is_a_sum_of_discounted_errors(acted):
    _, rollout, advantage = acted
    after = np.asarray(advantage)[-1] * 0
    got = np.asarray(ppo.advantages(rollout, after, SETTINGS))
    value, reward = np.asarray(rollout.value), np.asarray(rollout.reward)
    ends, total = np.asarray(rollout.seen)[..., ppo.CUES], 0
    for t in reversed(range(len(value))):
        following = value[t + 1] if t + 1 < len(value) else after
        goes_on = SETTINGS.discount * (1 - ends[t])
        error = reward[t] + goes_on * following - value[t]
        total = error + goes_on * SETTINGS.decay * total
        np.testing.assert_allclose(got[t], total, atol=1e-5)


def test_an_episode_shows_its_cue_once_and_asks_for_it_at_its_end(acted):
    _, rollout, _ = acted
    seen, resets, action, reward = (np.asarray(a) for a in (*rollout[:3], rollout.reward))
    lengths = []
    for row in range(SETTINGS.rows):
        starts = np.flatnonzero(resets[:, row])
        for start, end in itertools.pairwise(starts):
            own = seen[start:end, row]
            cue = own[0, : ppo.CUES].argmax()
            assert own[0, : ppo.CUES].sum() == 1
            assert not own[1:, : ppo.CUES].any()
            assert own[:, ppo.CUES].tolist() == [0] * (end - start - 1) + [1]
            assert reward[start:end, row].tolist() == [
                *[0] * (end - start - 1),
                float(action[end - 1, row] == cue),
            ]
            lengths.append(end - start - 2)
    assert set(lengths) == set(range(ppo.SHORTEST, ppo.LONGEST + 1))


@pytest.mark.slow
def test_it_learns_to_remember(capsys):
    rewards = ppo.train(ppo.Settings(updates=25))
    assert rewards[0] < 0.65
    assert min(rewards[-5:]) > 0.95
    assert "update  25  reward 1.00  first ratios 1 within " in capsys.readouterr().out
