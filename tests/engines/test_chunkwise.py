"""Chunks of any size give what step by step gives, whatever the gates do, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqcells as sc
from tests.support.laws import CASES, B, D, assert_close, draw, weigh

pytestmark = pytest.mark.usefixtures("strict")

NAMES = [name for name, case in CASES.items() if isinstance(case.cell, sc.ChunkCell)]
over_matrix = pytest.mark.parametrize("name", NAMES)


@functools.partial(jax.jit, static_argnames="reverse")
def graded(cell, problem, fresh, flags, reverse, engine):
    """All that `unroll` returns, and the gradient of the loss by all that it takes."""

    def loss(params, xs, carry, fresh):
        options = {"reset_carry": fresh, "reverse": reverse, "engine": engine}
        out = sc.unroll(cell, params, xs, carry, **flags, **options)
        return weigh(problem, *out), out

    inputs = (problem.params, problem.xs, problem.carry, fresh)
    return jax.grad(loss, (0, 1, 2, 3), has_aux=True)(*inputs)


def check_chunks(name, steps, size, seed, reverse, *, masked, restarted):
    """Compare with `Scan`, for a carry and a fresh one that are not 0, with NaN at padding."""
    case, rng = CASES[name], np.random.default_rng(seed)
    problem, fresh = draw(case, seed=seed, steps=steps), draw(case, seed=seed + 1).carry
    flags = {}
    if restarted:
        flags["resets"] = rng.random((steps, B)) < rng.uniform(0.2, 0.8)
    if masked:
        flags["mask"] = rng.random((steps, B)) < rng.uniform(0.2, 0.8)
        flags["lengths"] = rng.integers(0, steps + 1, B)
        valid = flags["mask"] & (np.arange(steps)[:, None] < flags["lengths"])
        problem = problem._replace(xs=np.where(valid[..., None], problem.xs, np.nan))
    args = (case.cell, problem, fresh, flags, reverse)
    got = graded(*args, sc.Chunkwise(size))
    assert_close(got, graded(*args, sc.Scan()), 1e-10)


@pytest.mark.parametrize("name", ["mlstm-heads", "gdn-heads"])
@pytest.mark.usefixtures("x64")
def test_a_chunk_holds_many_sequences_and_the_last_one_is_shorter(name):
    check_chunks(name, 6, 4, 533, reverse=True, masked=True, restarted=True)


@pytest.mark.slow
@over_matrix
@settings(max_examples=12, deadline=None)
@given(
    steps=st.integers(1, 9),
    size=st.integers(1, 10),
    seed=st.integers(0, 1000),
    reverse=st.booleans(),
    masked=st.booleans(),
    restarted=st.booleans(),
)
def test_chunks_of_any_size_give_what_step_by_step_gives(name, **drawn):
    with jax.enable_x64(True):
        check_chunks(name, **drawn)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@over_matrix
def test_forward_mode_and_second_derivatives_agree(name):
    case = CASES[name]
    problem = draw(case)
    along = jax.tree.map(np.sin, (problem.params, problem.xs))

    def loss(params, xs, engine):
        carry, ys = sc.unroll(case.cell, params, xs, problem.carry, engine=engine)
        return weigh(problem, carry, ys * ys)

    @jax.jit
    def derivatives(params, xs, engine):
        first = jax.grad(functools.partial(loss, engine=engine), (0, 1))
        return jax.jvp(first, (params, xs), along)  # forward over reverse

    args = (problem.params, problem.xs)
    assert_close(derivatives(*args, sc.Chunkwise(3)), derivatives(*args, sc.Scan()), 1e-10)


@pytest.mark.parametrize("closed", [200.0, 1e6, 1e38])
@pytest.mark.parametrize("cell", [sc.MLSTM(2), sc.GatedDeltaNet(2)], ids=repr)
def test_a_gate_that_closes_neither_gives_nan_nor_spoils_the_steps_after_it(cell, closed):
    """A difference of sums over the chunk would lose the logarithms of the steps after it."""
    xs = np.float32(np.random.default_rng(0).normal(size=(6, 8)))
    xs[2, -1] = closed if isinstance(cell, sc.GatedDeltaNet) else -closed  # the last column of W x
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 8))
    params = params._replace(w_ih=jnp.eye(8, dtype="float32"))

    @jax.jit
    def gradient(xs, engine):
        def loss(xs):
            return jnp.sum(sc.unroll(cell, params, xs, engine=engine)[1] ** 2)

        return jax.value_and_grad(loss)(xs)

    got = gradient(xs, sc.Chunkwise(6))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got))
    assert_close(got, gradient(xs, sc.Scan()), 1e-5)


@pytest.mark.parametrize("cell", [sc.RetNet(2), sc.GatedDeltaNet(2)], ids=repr)
def test_what_is_not_finite_stays_in_its_sequence(cell):
    """In the carry, in the fresh one and in inputs: what sees it is NaN, and all else as it was."""
    params, xs = cell.init(jax.random.key(0), D), np.ones((4, 5, D), "float32")
    xs[1, 3] = np.inf
    carry = jnp.ones((5, 1, 2, 2)).at[:2, 0, 0, 0].set(jnp.inf)
    fresh = jnp.ones((5, 1, 2, 2)).at[2].set(jnp.nan)
    flags = {"resets": np.zeros((4, 5), bool), "lengths": np.array([0, 4, 4, 4, 4])}
    flags["resets"][2, 1:] = True

    @jax.jit
    def run(carry, fresh, xs):
        options = {"reset_carry": fresh, "engine": sc.Chunkwise(3)}
        return sc.unroll(cell, params, xs, carry, **flags, **options)

    last, ys = run(carry, fresh, xs)
    struck = np.zeros((4, 5), bool)
    struck[:2, 1], struck[2:, 2], struck[1, 3] = True, True, True
    np.testing.assert_array_equal(np.isnan(ys), np.stack([struck] * 2, axis=-1))
    np.testing.assert_array_equal(last[0], carry[0])  # no step reads it
    clean = run(jnp.ones_like(carry), jnp.ones_like(fresh), np.ones_like(xs))
    assert_close(np.where(struck[..., None], 0, ys), np.where(struck[..., None], 0, clean[1]), 1e-6)
    assert_close(last[3:], clean[0][3:], 1e-6)
    assert np.all(np.isnan(last[2]))
