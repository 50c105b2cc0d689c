"""Learning from a stream: `train.stream`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import online, train
from tests.support.laws import assert_close, assert_same_bits

T, B, D = 4, 2, 2
KEY = jax.random.key(0)
CELL, READOUT = sc.MinGRU(3), sc.Dense(1)


def squared(output, target):
    return jnp.mean((output - target) ** 2, axis=-1)


def drawn(key, step):
    """A step of rows that may miss a target, which is then NaN, and may start anew."""
    k_x, k_target, k_scored, k_reset = jax.random.split(key, 4)
    scored = jax.random.bernoulli(k_scored, 0.7, (B,))
    target = jnp.where(scored[:, None], jax.random.normal(k_target, (B, 1)), jnp.nan)
    resets = jax.random.bernoulli(k_reset, 0.2, (B,))
    return train.Example(jax.random.normal(k_x, (B, D)), target, scored, resets)


RULE, PLAIN = online.RTRL(CELL), optax.sgd(0.5)


def learner(rule=RULE, optimizer=PLAIN, every=2):
    return train.stream(rule, squared, READOUT, optimizer, every=every)


SGD = learner()
EXAMPLES = jax.jit(jax.vmap(drawn))(jax.random.split(KEY, T), jnp.arange(T))


def test_an_update_takes_the_gradient_of_the_steps_since_the_last_one():
    state = jax.jit(SGD.init)(KEY, jnp.zeros((B, D)))
    head = jax.tree.map(lambda a: a[:2], EXAMPLES)

    def loss(params):
        _, ys = sc.unroll(CELL, params[0], head.x, resets=head.reset)
        rows = squared(sc.unroll(READOUT, params[1], ys)[1], jnp.nan_to_num(head.target))
        return jnp.sum(rows * head.scored) / (2 * B)

    step, states, metrics = jax.jit(SGD.step), [state], []
    for t in range(T):
        new, found = step(states[-1], jax.tree.map(lambda a, t=t: a[t], EXAMPLES))
        states, metrics = [*states, new], [*metrics, found]
    grads = jax.jit(jax.grad(loss))(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, grads)
    assert_same_bits(states[1].params, state.params)  # an update every two steps
    assert_close(states[2].params, expected, 1e-6)
    assert not any(np.any(a) for a in jax.tree.leaves(states[2].grads))
    assert np.any(states[3].grads[0].w_ih)
    for number, (found, scored) in enumerate(zip(metrics, EXAMPLES.scored, strict=True)):
        assert int(states[number + 1].step) == number + 1
        assert int(found["scored"]) == scored.sum()
        assert np.isnan(found["loss"]) == (not scored.any())


@pytest.mark.slow
def test_a_stream_that_is_resumed_has_the_same_bits():
    start = learner(online.UORO(CELL), optax.adam(0.1), every=3)
    state = start.init(KEY, jnp.zeros((B, D)))
    once, all_metrics = start.fit(state, drawn, 10, segment=5)
    half, one = start.fit(state, drawn, 4, segment=5)
    again, two = start.fit(half, drawn, 6, segment=3)
    assert_same_bits(
        jax.tree.leaves(again._replace(key=())), jax.tree.leaves(once._replace(key=()))
    )
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), one, two)
    assert_same_bits(joined, all_metrics)


def test_data_may_be_an_iterator_that_ends_or_is_longer():
    state = jax.jit(SGD.init)(KEY, jnp.zeros((B, D)))
    expected, metrics = jax.jit(SGD.run)(state, EXAMPLES)
    got, found = SGD.fit(state, iter([EXAMPLES] * 9), T)
    assert_same_bits((got.params, found), (expected.params, jax.tree.map(np.asarray, metrics)))
    ended, found = SGD.fit(state, [EXAMPLES], 100)
    assert int(ended.step) == len(found["loss"]) == T
    stopped, _ = SGD.fit(state, iter([EXAMPLES] * 9), 100, on_segment=lambda *_: True)
    assert int(stopped.step) == T
    same, none = SGD.fit(state, [], 100)
    assert same is state
    assert len(none["loss"]) == 0


@pytest.mark.slow
def test_random_feedback_is_drawn_once_and_used():
    rule = online.EProp(CELL, feedback="random")
    one = learner(rule, every=1)
    state = one.init(KEY, jnp.zeros((B, D)))
    assert state.feedback.shape == (1, 3)
    after, _ = one.step(state, jax.tree.map(lambda a: a[0], EXAMPLES))
    zeroed, _ = one.step(
        state._replace(feedback=0 * state.feedback), jax.tree.map(lambda a: a[0], EXAMPLES)
    )
    assert_same_bits(after.params[1], zeroed.params[1])  # the readout has its own gradient
    assert_same_bits(zeroed.params[0], state.params[0])
    assert np.abs(after.params[0].w_ih - state.params[0].w_ih).max() > 1e-4


REFUSED = {
    "rule": (lambda: train.stream(CELL, squared, READOUT, optax.sgd(1)), "rule: .*RTRL"),
    "loss": (lambda: train.stream(SGD.rule, 3, READOUT, optax.sgd(1)), r"loss: .*float\[\*B\]"),
    "readout": (lambda: train.stream(SGD.rule, squared, 3, optax.sgd(1)), "readout: .*Dense"),
    "optimizer": (lambda: train.stream(SGD.rule, squared, READOUT, 3), "optimizer: .*optax"),
    "memory": (
        lambda: train.stream(SGD.rule, squared, sc.Recurrent(CELL), optax.sgd(1)).init(
            KEY, jnp.zeros((B, D))
        ),
        "readout: .*without memory",
    ),
    "line search": (
        lambda: learner(optimizer=optax.lbfgs(), every=1).fit(
            learner(optimizer=optax.lbfgs(), every=1).init(KEY, jnp.zeros((B, D))), [EXAMPLES], 4
        ),
        "optimizer: .*needs gradients alone",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(name):
    call, match = REFUSED[name]
    with pytest.raises(TypeError, match=match):
        call()


def test_every_is_at_least_one():
    with pytest.raises(ValueError, match=r"every: .*>= 1"):
        learner(every=0)
