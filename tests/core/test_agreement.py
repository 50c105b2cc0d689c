"""One function whichever way it is called: eagerly, under jit, under vmap, in a scan of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import B, assert_close, draw, over_built_in

pytestmark = pytest.mark.slow

WITHIN = {"float32": 1e-6, "float64": 1e-12, "bfloat16": 2e-2}


def loop(cell, params, xs, carry):
    """Take eager steps."""
    ys = []
    for x in xs:
        carry, y = cell.step(params, carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def scan(cell, params, xs, carry):
    """Scan a body that is the cell's step."""
    run = jax.jit(lambda params, *rest: jax.lax.scan(lambda c, x: cell.step(params, c, x), *rest))
    return run(params, carry, xs)


def mapped(cell, params, xs, carry):
    """Map over the sequences of a batch, each of them alone."""
    return jax.vmap(sc.unroll, (None, None, 1, 0), (0, 1))(cell, params, xs, carry)


WAYS = {
    "loop": loop,
    "scan": scan,
    "eager": sc.unroll,
    "vmap": jax.jit(mapped),
    "members": lambda cell, params, *args: jax.tree.map(
        lambda a: a[1],
        jax.jit(jax.vmap(sc.unroll, (None, 0, None, None)))(cell, *two(params, args)),
    ),
}


def two(params, args):
    """Parameters of two members, the second of which is meant."""
    return jax.tree.map(lambda a: jnp.stack([2 * a, a]), params), *args


@pytest.mark.laws("agree")
@pytest.mark.parametrize("dtype", WITHIN)
@over_built_in
def test_every_way_to_call_gives_the_same(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        wide = np.float64 if dtype == "float64" else np.float32
        problem = draw(case, (B,))
        given = (problem.params, problem.carry)
        params, carry = jax.tree.map(lambda a: jnp.asarray(a, wide), given)
        args = (params, jnp.asarray(problem.xs, dtype), carry)
        expected = in_float64(jax.jit(sc.unroll)(case.cell, *args))
        for name, way in WAYS.items():
            got = way(case.cell, *args)
            assert jax.tree.leaves(got)[-1].dtype == dtype, name
            assert_close(in_float64(got), expected, WITHIN[dtype])


def in_float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)
