"""What an actor stored: chunks for a learner, and whether it replays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import B, D, H, assert_close

pytestmark = pytest.mark.usefixtures("strict", "x64")

KEY = jax.random.key(0)
STEPS = 11
NET = sc.Stack((sc.Dense(4, "tanh"), sc.Recurrent(sc.GRU(H), learned_carry=True), sc.LSTM(H)))


def drawn(rng, shape):
    return jax.tree.map(lambda a: jnp.asarray(0.7 * rng.normal(size=a.shape)), shape)


@functools.cache
def acted(model, seed=0):
    """What an actor stores, step by step: params, xs, the carry before each step, ys, resets."""
    rng = np.random.default_rng(seed)
    params = drawn(rng, jax.eval_shape(lambda: model.init(KEY, D)))
    xs, resets = jnp.asarray(rng.normal(size=(STEPS, B, D))), rng.random((STEPS, B)) < 0.3
    carry = drawn(rng, jax.eval_shape(lambda: model.init_carry(xs[0], params)))

    def step(carry, inputs):
        after, y = model.step(params, carry, *inputs)
        return after, (carry, y)

    _, (carries, ys) = jax.jit(lambda *args: jax.lax.scan(step, *args))(carry, (xs, resets))
    return params, xs, carries, ys, resets


@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize("model", [sc.LSTM(H), NET], ids=["cell", "net"])
def test_chunks_are_unrolled_to_what_the_actor_saw(model, burn_in):
    params, xs, carries, ys, resets = acted(model)
    keep = burn_in + 8
    xs, carries, ys, resets = jax.tree.map(lambda a: a[:keep], (xs, carries, ys, resets))
    others = ({"y": ys}, np.arange(keep))
    parts = sc.chunks(xs, *others, carries=carries, length=4, burn_in=burn_in, resets=resets)
    _, got = parts.unroll(model, params)
    assert got.shape == (2, 4, B, H)
    assert_close(got, parts.others[0]["y"])
    np.testing.assert_array_equal(parts.others[1], burn_in + np.arange(8).reshape(2, 4))
    assert_close(jnp.concatenate(list(got)), ys[burn_in:])
    one = jax.tree.map(lambda a: a[1:], parts)  # a minibatch
    assert_close(one.unroll(model, params)[1], got[1:])


def test_a_burn_in_renews_the_carry_and_has_no_gradient():
    model = sc.GRU(H)
    params, xs, carries, _, resets = acted(model)
    other = jax.tree.map(lambda a: 0.5 * a, params)
    parts = sc.chunks(xs, carries=carries, length=4, burn_in=3, resets=resets)

    def loss(params, parts):
        return jnp.sum(jnp.sin(parts.unroll(model, params)[1]))

    def by_hand(params, xs):
        total = 0
        for start in (0, 4):
            early, late = slice(start, start + 3), slice(start + 3, start + 7)
            carry, _ = sc.unroll(model, other, xs[early], carries[start], resets=resets[early])
            _, ys = sc.unroll(
                model, params, xs[late], jax.lax.stop_gradient(carry), resets=resets[late]
            )
            total += jnp.sum(jnp.sin(ys))
        return total

    got, d_parts = jax.jit(jax.grad(loss, (0, 1), allow_int=True))(other, parts)
    assert_close(got, jax.jit(jax.grad(by_hand))(other, xs))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((d_parts.carry, d_parts.early_xs)))
    assert np.any(d_parts.xs)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"length": 5}, ValueError, "length: .*divisor of T - burn_in = 11 - 0, got 5; store 10"),
        ({"length": 0}, ValueError, "length: expected an int >= 1, got 0"),
        ({"burn_in": -1}, ValueError, "burn_in: expected an int >= 0, got -1"),
        ({"length": 12}, ValueError, "length: .*got 12; store 12 steps"),
        ({"resets": np.ones((3, B), bool)}, ValueError, r"resets: expected \[T, ...\] with T=11"),
        ({"carries": np.ones((B, H))}, ValueError, r"carries: expected \[T, ...\] with T=11"),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name(change, kind, message):
    _, xs, carries, _, _ = acted(sc.GRU(H))
    with pytest.raises(kind, match=message):
        sc.chunks(xs, **{"carries": carries, "length": 11} | change)


def test_a_shift_by_one_is_found_in_every_rollout_and_nothing_where_there_is_none():
    """In 30 rollouts, of which each row has resets anywhere, also at the edges, or none."""
    model, steps = sc.GRU(H), 6
    params = acted(model)[0]
    unroll = jax.jit(functools.partial(sc.unroll, model, params))
    rng = np.random.default_rng(0)
    for i in range(30):
        xs = jnp.asarray(rng.normal(size=(steps, 2, D)))
        carry, resets = jnp.asarray(rng.normal(size=(2, H))), np.zeros((steps, 2), bool)
        while not resets.any():
            resets = rng.random((steps, 2)) < 0.3
        _, ys = unroll(xs, carry, resets=resets)
        check = functools.partial(sc.debug.check_replay, model, params, xs, ys, carry)
        assert check(resets).ok
        by = 1 if i % 2 else -1
        moved = np.roll(resets, -by, axis=0)
        moved[-1 if by > 0 else 0] = False  # that flag is lost
        found = check(moved)
        assert (found.ok, found.shift) == (False, by), i
        departs = np.argwhere((moved != resets).any(axis=1))[0, 0]
        assert found.step == departs


@pytest.mark.parametrize("time_axis", [0, 1])
def test_the_first_step_and_row_that_depart_are_named(time_axis):
    params, xs, carries, ys, resets = acted(NET)
    carry = jax.tree.map(lambda a: a[0], carries)
    move = functools.partial(np.moveaxis, source=0, destination=time_axis)
    args = (NET, params, move(xs))
    check = functools.partial(sc.debug.check_replay, *args, time_axis=time_axis)
    fine = check(move(ys), carry, move(resets))
    assert fine.ok
    assert str(fine).startswith("It replays: outputs differ by ")
    other = ys.at[6, 2].add(0.5).at[8, 0].add(2)
    found = check(move(other), carry, move(resets))
    assert found[:1] + found[2:] == (False, 6, (2,), None)
    assert "departs first at step 6, row (2,); outputs differ by " in str(found)
    nan = check(move(ys.at[4, 1, 0].set(jnp.nan)), carry, move(resets))
    assert (nan.ok, nan.step, nan.row) == (False, 4, (1,))
    late = np.zeros_like(resets)
    late[1:] = resets[:-1]
    assert "with each reset one step earlier it replays" in str(check(move(ys), carry, move(late)))
    fresh = check(move(ys), None, move(resets))
    assert (fresh.step, fresh.shift) == (0, None)
    assert "the carry is not that before the first step" in str(fresh)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"ys": np.ones((STEPS, B))},
            ValueError,
            r"ys: expected float64\[11, 3, 3\].*got float64\[",
        ),
        ({"tol": 0}, ValueError, "tol: expected a number above 0, got 0"),
        ({"resets": np.ones(STEPS, bool)}, ValueError, r"resets: expected bool\[11, 3\]"),
    ],
)
def test_what_cannot_replay_is_refused_by_name(change, kind, message):
    params, xs, _, ys, _ = acted(sc.GRU(H))
    with pytest.raises(kind, match=message):
        sc.debug.check_replay(sc.GRU(H), params, xs, **{"ys": ys} | change)
