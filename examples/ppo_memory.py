"""PPO with a memory, in a corridor whose end asks for what its beginning showed.

    python -m examples.ppo_memory

An episode shows a cue at its first step, then nothing for 2 to 7 steps, then a signal: the action
at the signal earns 1 if it is the cue, and the episode ends. Without a memory the mean reward of an
episode stays at 1/2. Proximal policy optimisation after Schulman et al. (2017), with generalised
advantages; the net is one value, which the actor steps and the learner unrolls.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import seqcells as sc

CUES = 2
SHORTEST, LONGEST = 2, 7  # steps between the cue and the signal


class Corridor(NamedTuple):
    """The state of a corridor, in each row of a batch."""

    cue: jax.Array  # int[B]
    left: jax.Array  # int[B], steps until the signal
    first: jax.Array  # bool[B], whether the cue is shown


def enter(key: jax.Array, rows: int) -> Corridor:
    """Begin an episode in every row."""
    k_cue, k_left = jax.random.split(key)
    left = jax.random.randint(k_left, (rows,), SHORTEST + 1, LONGEST + 2)
    return Corridor(jax.random.randint(k_cue, (rows,), 0, CUES), left, jnp.ones(rows, bool))


def look(state: Corridor) -> jax.Array:
    """Return what is seen, float[B, CUES + 1]: the cue at the first step, at the last a signal."""
    cue = jax.nn.one_hot(state.cue, CUES) * state.first[:, None]
    return jnp.concatenate([cue, (state.left == 0)[:, None]], axis=-1)


def walk(key: jax.Array, state: Corridor, action: jax.Array) -> tuple[Corridor, jax.Array]:
    """Take a step. Returns the next state, the first of a new episode after the signal; rewards."""
    done = state.left == 0
    reward = jnp.where(done & (action == state.cue), 1.0, 0.0)
    on = Corridor(state.cue, state.left - 1, jnp.zeros_like(done))
    new = enter(key, len(action))
    return jax.tree.map(lambda a, b: jnp.where(done, a, b), new, on), reward


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, and how."""

    rows: int = 64  # episodes at once
    steps: int = 64  # of a rollout
    updates: int = 40  # rollouts
    epochs: int = 4  # over each rollout
    minibatches: int = 4  # of each epoch, of rows
    rate: float = 3e-3  # the learning rate of Adam
    discount: float = 0.95
    decay: float = 0.9  # lambda of the generalised advantages
    clip: float = 0.2  # of the ratio
    entropy: float = 0.01  # weight of its bonus
    seed: int = 0


NET = sc.Stack((sc.Dense(32, "tanh"), sc.GRU(32), sc.Dense(CUES + 1)))  # logits, and a value


class Rollout(NamedTuple):
    """What an actor stores of each step, [T, B, ...]."""

    seen: jax.Array  # what the net read
    resets: jax.Array  # whether this step is the first of its episode
    action: jax.Array
    log_prob: jax.Array  # of the action
    value: jax.Array
    reward: jax.Array


class Actor(NamedTuple):
    """Where an actor stands between two rollouts."""

    state: Corridor
    carry: Any  # the net's memory, before it reads what is seen


def heads(ys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split outputs [..., CUES + 1] into the log-probabilities of actions and the value."""
    return jax.nn.log_softmax(ys[..., :CUES]), ys[..., CUES]


def of_action(log_probs: jax.Array, action: jax.Array) -> jax.Array:
    """Pick the log-probability of the action that was taken."""
    return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]


def act(params: Any, actor: Actor, key: jax.Array) -> tuple[Actor, Rollout]:
    """Take one step in every row."""
    k_action, k_walk = jax.random.split(key)
    seen, resets = look(actor.state), actor.state.first
    carry, y = NET.step(params, actor.carry, seen, reset=resets)
    log_probs, value = heads(y)
    action = jax.random.categorical(k_action, log_probs)
    state, reward = walk(k_walk, actor.state, action)
    stored = Rollout(seen, resets, action, of_action(log_probs, action), value, reward)
    return Actor(state, carry), stored


def advantages(rollout: Rollout, after: jax.Array, settings: Settings) -> jax.Array:
    """Estimate the advantage of each action (Schulman et al. 2016); `after` is the last value."""

    def back(total: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, value, following, ends = step
        goes_on = settings.discount * (1 - ends)
        total = reward + goes_on * following - value + settings.decay * goes_on * total
        return total, total

    ends = rollout.seen[..., CUES]  # the step of the signal is the last of its episode
    following = jnp.concatenate([rollout.value[1:], after[None]])
    steps = (rollout.reward, rollout.value, following, ends)
    return jax.lax.scan(back, jnp.zeros_like(after), steps, reverse=True)[1]


def loss(
    params: Any,
    carry: Any,
    rollout: Rollout,
    advantage: jax.Array,
    settings: Settings,
) -> tuple[jax.Array, jax.Array]:
    """Compute the loss of PPO over rows of a rollout, and the ratios [T, B] of probabilities."""
    _, ys = sc.unroll(NET, params, rollout.seen, carry, resets=rollout.resets)
    log_probs, value = heads(ys)
    ratio = jnp.exp(of_action(log_probs, rollout.action) - rollout.log_prob)
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1 - settings.clip, 1 + settings.clip)
    policy = -jnp.minimum(ratio * scaled, clipped * scaled).mean()
    error = jnp.square(value - (rollout.value + advantage)).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(axis=-1).mean()
    return policy + 0.5 * error - settings.entropy * entropy, ratio


class State(NamedTuple):
    """The state of the training."""

    params: Any
    memory: optax.OptState
    actor: Actor


def optimizer(settings: Settings) -> optax.GradientTransformation:
    """Adam behind a clipped gradient."""
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(settings.rate))


def init(settings: Settings) -> State:
    """Make the net, and let every row begin an episode."""
    k_params, k_enter = jax.random.split(jax.random.key(settings.seed))
    params = NET.init(k_params, CUES + 1)
    state = enter(k_enter, settings.rows)
    actor = Actor(state, NET.init_carry(look(state), params))
    return State(params, optimizer(settings).init(params), actor)


def collect(state: State, key: jax.Array, settings: Settings) -> tuple[Actor, Rollout, jax.Array]:
    """Act for a rollout. Returns the actor after it, the rollout, and the advantages [T, B]."""
    keys = jax.random.split(key, settings.steps)
    after, rollout = jax.lax.scan(functools.partial(act, state.params), state.actor, keys)
    seen, first = look(after.state), after.state.first
    _, y = NET.step(state.params, after.carry, seen, reset=first)
    return after, rollout, advantages(rollout, heads(y)[1], settings)


@functools.partial(jax.jit, static_argnames="settings")
def update(state: State, key: jax.Array, settings: Settings) -> tuple[State, jax.Array, jax.Array]:
    """Collect a rollout and learn from it.

    Returns:
        The next state, the mean reward of the episodes that ended, and how far the ratios of the
        first minibatch are from 1.
    """
    k_collect, k_rows = jax.random.split(key)
    before, (after, rollout, advantage) = state.actor, collect(state, k_collect, settings)

    def learn(trained: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
        params, memory = trained
        carry = jax.tree.map(lambda a: a[rows], before.carry)
        part, own = jax.tree.map(lambda a: a[:, rows], (rollout, advantage))
        gradient, ratio = jax.grad(loss, has_aux=True)(params, carry, part, own, settings)
        change, memory = optimizer(settings).update(gradient, memory, params)
        return (optax.apply_updates(params, change), memory), jnp.abs(ratio - 1).max()

    orders = [
        jax.random.permutation(k, settings.rows) for k in jax.random.split(k_rows, settings.epochs)
    ]
    rows = jnp.concatenate(orders).reshape(settings.epochs * settings.minibatches, -1)
    (params, memory), off = jax.lax.scan(learn, (state.params, state.memory), rows)
    mean_reward = rollout.reward.sum() / rollout.seen[..., CUES].sum()
    return State(params, memory, after), mean_reward, off[0]


def train(settings: Settings) -> list[float]:
    """Train, and print how it goes; return the mean reward of an episode in each rollout."""
    state, rewards = init(settings), []
    for i, key in enumerate(jax.random.split(jax.random.key(settings.seed + 1), settings.updates)):
        state, reward, off = update(state, key, settings)
        rewards.append(float(reward))
        if i % 5 == 0 or i + 1 == settings.updates:
            print(
                f"update {i + 1:3d}  reward {rewards[-1]:.2f}  first ratios 1 within {off:.0e}",
                flush=True,
            )
    return rewards


if __name__ == "__main__":
    train(Settings())
