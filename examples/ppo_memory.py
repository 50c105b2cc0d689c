"""PPO with a memory: in a corridor, the end asks for what the beginning showed.

    python -m examples.ppo_memory

An episode shows a cue at its first step, then nothing for 2 to 7 steps, then a signal. The action
at the signal earns 1 if it is the cue, and the episode ends; without a memory the mean reward is
1/2. The actor steps the network that the learner unrolls (PPO: Schulman et al. 2017).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import seqcells as sc

CUES, SHORTEST, LONGEST = 2, 2, 7  # the steps between the cue and the signal
STEPS, EPOCHS, MINIBATCHES = 64, 4, 4  # of a rollout; over each rollout; of each epoch
DISCOUNT, LAMBDA, CLIP, ENTROPY = 0.95, 0.9, 0.2, 0.01
NET = sc.Stack((sc.Dense(32, "tanh"), sc.GRU(32), sc.Dense(CUES + 1)))  # logits, and a value
OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3))


class Corridor(NamedTuple):
    """The state of the environment, one corridor a row."""

    cue: jax.Array  # int[B]
    left: jax.Array  # int[B], steps until the signal
    first: jax.Array  # bool[B], whether the cue is shown


class Rollout(NamedTuple):
    """What the actor stores of each step, [T, B, ...]."""

    seen: jax.Array  # the network's input
    resets: jax.Array  # whether this step is the first of its episode
    ends: jax.Array  # whether it is the last
    action: jax.Array
    log_prob: jax.Array  # of the action
    value: jax.Array
    reward: jax.Array


def enter(key: jax.Array, rows: int) -> Corridor:
    """Begin an episode in every row."""
    k_cue, k_left = jax.random.split(key)
    left = jax.random.randint(k_left, (rows,), SHORTEST + 1, LONGEST + 2)
    return Corridor(jax.random.randint(k_cue, (rows,), 0, CUES), left, jnp.ones(rows, bool))


def look(state: Corridor) -> jax.Array:
    """Return the observation [B, CUES + 1]: the cue at the first step, the signal at the last."""
    cue = jax.nn.one_hot(state.cue, CUES) * state.first[:, None]
    return jnp.concatenate([cue, (state.left == 0)[:, None]], axis=-1)


def walk(key: jax.Array, state: Corridor, action: jax.Array) -> tuple[Corridor, jax.Array]:
    """Take a step. Return the next state (a new episode after a signal) and the reward."""
    done = state.left == 0
    following = Corridor(state.cue, state.left - 1, jnp.zeros_like(done))
    state = jax.tree.map(lambda a, b: jnp.where(done, a, b), enter(key, len(action)), following)
    return state, jnp.where(done & (action == following.cue), 1.0, 0.0)


def heads(ys: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return from outputs [..., CUES + 1]: log-probability of the action, value, entropy."""
    log_probs = jax.nn.log_softmax(ys[..., :CUES])
    chosen = jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]
    return chosen, ys[..., CUES], -(jnp.exp(log_probs) * log_probs).sum(axis=-1)


def collect(params: Any, state: Corridor, carry: Any, key: jax.Array) -> tuple:
    """Act for STEPS steps. Return the corridors and the carry after them, and the rollout."""

    def act(actor: tuple[Corridor, Any], key: jax.Array) -> tuple:
        (state, carry), (k_action, k_walk) = actor, jax.random.split(key)
        seen, resets, ends = look(state), state.first, state.left == 0
        carry, y = NET.step(params, carry, seen, reset=resets)
        action = jax.random.categorical(k_action, y[:, :CUES])
        log_prob, value, _ = heads(y, action)
        state, reward = walk(k_walk, state, action)
        return (state, carry), Rollout(seen, resets, ends, action, log_prob, value, reward)

    after, rollout = jax.lax.scan(act, (state, carry), jax.random.split(key, STEPS))
    return *after, rollout


def advantages(rollout: Rollout, last: jax.Array) -> jax.Array:
    """Estimate the advantages [T, B] (Schulman et al. 2016); `last` [B] is the value after them."""

    def back(total: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, value, following, ends = step
        total = reward - value + DISCOUNT * (1 - ends) * (following + LAMBDA * total)
        return total, total

    following = jnp.concatenate([rollout.value[1:], last[None]])
    steps = (rollout.reward, rollout.value, following, rollout.ends)
    return jax.lax.scan(back, 0 * last, steps, reverse=True)[1]


def loss(params: Any, carry: Any, rollout: Rollout, advantage: jax.Array) -> tuple:
    """Compute PPO's loss over rows of a rollout, and the ratios [T, B] of probabilities."""
    _, ys = sc.unroll(NET, params, rollout.seen, carry, resets=rollout.resets)
    log_prob, value, entropy = heads(ys, rollout.action)
    ratio = jnp.exp(log_prob - rollout.log_prob)
    scaled = jax.nn.standardize(advantage, axis=None)
    policy = -jnp.minimum(ratio * scaled, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * scaled)
    error = jnp.square(value - (rollout.value + advantage))
    return (policy + 0.5 * error - ENTROPY * entropy).mean(), ratio


@jax.jit
def update(params: Any, memory: Any, state: Corridor, carry: Any, key: jax.Array) -> tuple:
    """Learn from a rollout. Return what follows, the mean reward, the error of the first ratios."""
    k_collect, k_rows = jax.random.split(key)
    after, after_carry, rollout = collect(params, state, carry, k_collect)
    _, y = NET.step(params, after_carry, look(after), reset=after.first)
    advantage = advantages(rollout, y[:, CUES])

    def learn(trained: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
        params, memory = trained
        own = jax.tree.map(lambda a: a[:, rows], (rollout, advantage))
        start = jax.tree.map(lambda a: a[rows], carry)
        gradient, ratio = jax.grad(loss, has_aux=True)(params, start, *own)
        change, memory = OPTIMIZER.update(gradient, memory, params)
        return (optax.apply_updates(params, change), memory), jnp.abs(ratio - 1).max()

    epochs = [jax.random.permutation(k, len(state.cue)) for k in jax.random.split(k_rows, EPOCHS)]
    rows = jnp.concatenate(epochs).reshape(EPOCHS * MINIBATCHES, -1)
    (params, memory), off = jax.lax.scan(learn, (params, memory), rows)
    return params, memory, after, after_carry, rollout.reward.sum() / rollout.ends.sum(), off[0]


def main(updates: int = 40, rows: int = 64, seed: int = 0) -> list[float]:
    """Train, print the progress, and return the mean reward of an episode in each rollout."""
    k_params, k_enter, *keys = jax.random.split(jax.random.key(seed), updates + 2)
    params, state = NET.init(k_params, CUES + 1), enter(k_enter, rows)
    trained = (params, OPTIMIZER.init(params), state, NET.init_carry(look(state), params))
    rewards = []
    for i, key in enumerate(keys, 1):
        *trained, reward, off = update(*trained, key)
        rewards.append(float(reward))
        if i % 5 == 0 or i in (1, updates):
            print(f"update {i:3d}  reward {reward:.2f}  first ratios 1 within {off:.0e}")
    return rewards


if __name__ == "__main__":
    main()
