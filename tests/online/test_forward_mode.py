"""The engine whose gradient is computed forward in time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws
from tests.support.laws import assert_close, over_online

pytestmark = pytest.mark.usefixtures("strict", "x64")

T, B, D = 3, 2, 2
MASK = np.array([[1, 1], [1, 0], [1, 1]], bool)
RESETS = np.array([[0, 0], [0, 1], [1, 0]], bool)  # one of them at padding


@functools.partial(jax.jit, static_argnums=(0, 3))
def graded(engine, cell, problem, reverse, xs, flags):
    """The gradient by params, the initial carry and that after resets."""

    def loss(params, carry, fresh):
        options = {"engine": engine, "reset_carry": fresh, "reverse": reverse, **flags}
        return laws.weigh(problem, *sc.unroll(cell, params, xs, carry, **options))

    fresh = jax.tree.map(lambda a: 0.5 * a, problem.weigh_carry)
    return jax.grad(loss, (0, 1, 2))(problem.params, problem.carry, fresh)


@over_online
@pytest.mark.laws("online")
def test_its_gradient_is_that_of_a_scan(case):
    """With resets, and padding that holds NaN, also of the last carry; read from the end."""
    problem = laws.draw(case, (B,), steps=T)
    xs = np.where(laws.whole(MASK, problem.xs), problem.xs, np.nan)
    args = case.cell, problem, True, xs, {"mask": MASK, "resets": RESETS}
    assert_close(graded(sc.ForwardMode(), *args), graded(sc.Scan(), *args))


NET = sc.Stack((sc.Dense(3), sc.Recurrent(sc.MinGRU(2), learned_carry=True)))


def of_net(params, xs, stop, engine):
    xs = sc.unroll(NET.layers[0], params[0], xs)[1]
    xs = jax.lax.stop_gradient(xs) if stop else xs
    return jnp.sum(sc.unroll(NET.layers[1], params[1], xs, engine=engine)[1] ** 2)


def test_a_gradient_by_its_inputs_is_refused_unless_they_are_stopped():
    params, xs = NET.init(jax.random.key(0), D), np.ones((T, B, D))
    grad = jax.jit(jax.grad(of_net), static_argnums=(2, 3))
    with pytest.raises(ValueError, match=r"engine: .*xs.*stop_gradient"):
        grad(params, xs, False, sc.ForwardMode())
    one, two = (grad(params, xs, True, engine) for engine in (sc.ForwardMode(), sc.Scan()))
    assert_close(one, two, 1e-5)  # the parameters are float32


@pytest.mark.slow
def test_what_it_stores_does_not_grow_with_time():
    """But inputs, outputs and their cotangent, of which a loss of the last carry has none."""
    cell, sizes = sc.MinGRU(8), []
    params = cell.init(jax.random.key(0), 1)

    def loss(params, xs):
        carry, _ = sc.unroll(cell, params, xs, engine=sc.ForwardMode())
        return jnp.sum(carry**2)

    for steps in (100, 10_000):
        compiled = jax.jit(jax.grad(loss)).lower(params, np.zeros((steps, 1, 1))).compile()
        sizes.append(compiled.memory_analysis().temp_size_in_bytes)
    assert sizes[1] - sizes[0] <= 2 * 8 * 8 * 10_000  # ys and zeros in place of their cotangent
    carries = 8 * 8 * 10_000
    scan = jax.jit(jax.grad(lambda p, xs: jnp.sum(sc.unroll(cell, p, xs, engine=sc.Scan())[0])))
    stored = scan.lower(params, np.zeros((10_000, 1, 1))).compile().memory_analysis()
    assert stored.temp_size_in_bytes > 2 * carries


@pytest.mark.slow
def test_no_step_at_all_has_the_gradient_of_the_first_carry():
    cell = sc.MinGRU(2)
    params, xs = cell.init(jax.random.key(0), D), np.ones((0, B, D))

    def loss(carry):
        return jnp.sum(sc.unroll(cell, params, xs, carry, engine=sc.ForwardMode())[0] ** 2)

    carry = np.arange(4.0).reshape(B, 2)
    assert_close(jax.grad(loss)(carry), 2 * carry)
