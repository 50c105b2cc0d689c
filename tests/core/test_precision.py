"""The contract of dtypes over a whole sequence: narrow products, wide memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws
from tests.support.laws import assert_close, draw, dtypes, expect, over_built_in, with_dtypes

pytestmark = pytest.mark.usefixtures("strict")

NARROW = ["bfloat16", "float16"]
TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}


def shapes_in(case, dtype, param_dtype):
    """Return params and xs as shapes alone."""
    problem = draw(case)
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, param_dtype), problem.params)
    return params, jax.ShapeDtypeStruct(problem.xs.shape, dtype)


@pytest.mark.laws("narrow")
@laws.over_built_in_able
def test_narrow_inputs_keep_a_wide_carry_and_gradients_in_the_dtype_of_params(case, engine):
    """The three dtypes differ, so that none can stand for another."""
    dtype, param_dtype = "bfloat16", "float16"
    cell = with_dtypes(case.cell, param_dtype=param_dtype)

    def loss(params, xs):
        carry, ys = sc.unroll(cell, params, xs, engine=engine)
        return jnp.sum(ys.astype("float32")), (carry, ys)

    graded = jax.grad(loss, (0, 1), has_aux=True)
    made = jax.eval_shape(graded, *shapes_in(case, dtype, param_dtype))
    (d_params, d_xs), (carry, ys) = made
    assert ys.dtype == d_xs.dtype == dtype
    assert dtypes(carry) == {jnp.dtype("float32")}
    assert dtypes(d_params) == {jnp.dtype(param_dtype)}


@over_built_in
@pytest.mark.parametrize("dtype", NARROW)
def test_a_trajectory_of_narrow_inputs_is_wide(case, dtype):
    shapes = shapes_in(case, dtype, "float32")
    carries = jax.eval_shape(lambda *args: sc.trajectory(case.cell, *args), *shapes)
    assert dtypes(carries) == {jnp.dtype("float32")}


@over_built_in
@pytest.mark.parametrize(("x_dtype", "dtype"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_the_dtype_of_a_cell_comes_before_that_of_its_input(case, x_dtype, dtype):
    cell = with_dtypes(case.cell, dtype=dtype)
    shapes = shapes_in(case, x_dtype, "float32")
    carry, ys = jax.eval_shape(lambda *args: sc.unroll(cell, *args), *shapes)
    assert dtypes(carry) == {jnp.dtype("float32")}
    assert ys.dtype == dtype


@pytest.mark.laws("float64")
@pytest.mark.usefixtures("x64")
@laws.over_built_in_able
def test_float64_is_float64_throughout(case, engine):
    shapes = shapes_in(case, "float64", "float64")
    made = jax.eval_shape(lambda *args: sc.unroll(case.cell, *args, engine=engine), *shapes)
    assert dtypes(made) == {jnp.dtype("float64")}


@pytest.mark.usefixtures("x64")
@over_built_in
def test_float32_stays_float32_where_float64_is_allowed(case):
    shapes = shapes_in(case, "float32", "float32")
    made = jax.eval_shape(lambda *args: sc.unroll(case.cell, *args), *shapes)
    assert dtypes(made) == {jnp.dtype("float32")}


@over_built_in
@pytest.mark.parametrize(
    ("dtype", "tol"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 3e-2)]
)
def test_values_are_as_near_as_their_dtype_allows(case, dtype, tol):
    problem = draw(case)
    params, carry = jax.tree.map(np.float32, (problem.params, problem.carry))
    got = jax.jit(sc.unroll)(case.cell, params, jnp.asarray(problem.xs, dtype), carry)
    assert_close(jax.tree.map(np.float64, got), expect(case, problem, {}), tol)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("carrier", ["rnn", "gru-after", "gru-before"])
def test_a_sum_of_1000_ones_is_not_rounded_away(carrier, dtype):
    """In bfloat16 256 + 1 is 256: a memory of 8 bits would stop there."""
    ones = jnp.ones((1000, 1), dtype)
    if carrier == "rnn":
        cell, params = sc.RNN(1, "identity", bias="none"), sc.RNNParams(*jnp.ones((2, 1, 1)), None)
        carry, _ = sc.unroll(cell, params, ones)
        assert float(carry[0]) == 1000
        return
    cell = sc.GRU(1, reset_after=carrier == "gru-after", bias="single")
    z = 2.0**-10  # a write of z * n that is under half a unit of bfloat16 once h is above 1/8
    bias = jnp.array([0.0, -np.log(1 / z - 1), 100.0])
    params = sc.GRUParams(jnp.zeros((1, 3)), jnp.zeros((1, 3)), bias, None)
    carry, _ = sc.unroll(cell, params, ones)
    assert float(carry[0]) == pytest.approx(1 - (1 - z) ** 1000, rel=1e-4)


def narrow_and_wide(case):
    """A cell that computes in bfloat16 with one that computes in float32; params and a carry."""
    cell, params = with_dtypes(case.cell, dtype="bfloat16"), draw(case).params
    rng, x = np.random.default_rng(0), jnp.zeros(case.x, "bfloat16")
    carry = jax.tree.map(lambda a: jnp.float32(rng.normal(size=a.shape)), cell.init_carry(x))
    wide = with_dtypes(case.cell, dtype="float32")
    return cell, wide, jax.tree.map(jnp.float32, params), carry, x


@laws.over_forms
def test_a_carry_is_multiplied_as_it_is(case):
    """The recurrent product of a narrow computation is wide: 257 is 256 in bfloat16."""
    narrow, wide, params, carry, x = narrow_and_wide(case)
    exact = {"xla_allow_excess_precision": False}  # or XLA leaves out what rounds

    def both(*args):
        return [cell.step(*args)[0] for cell in (narrow, wide)]

    assert_close(*jax.jit(both, compiler_options=exact)(params, carry, x), 1e-6)


@laws.over_forms
def test_a_carry_is_read_as_it_is(case):
    """And only what comes of it is rounded."""
    narrow, wide, params, carry, x = narrow_and_wide(case)
    got, expected = (cell.read(params, carry, cell.project(params, x)) for cell in (narrow, wide))
    assert_close(np.float32(got), np.float32(expected.astype("bfloat16")), 0)


@over_built_in
def test_operands_are_rounded_to_the_dtype_of_computation_and_sums_are_not(case):
    """In bfloat16 1.001 is 1, and 4097 is 4096."""
    cell = with_dtypes(case.cell, dtype="bfloat16")
    made = jax.eval_shape(lambda: cell.init(jax.random.key(0), 4097))
    params = jax.tree.map(lambda a: np.zeros(a.shape, "float32"), made)
    params = params._replace(w_ih=np.full_like(params.w_ih, 1.001))
    drive = cell.project(params, jnp.full(4097, 1.001))
    for leaf in jax.tree.leaves(drive):
        assert leaf.dtype == jnp.float32
        np.testing.assert_array_equal(leaf, 4097)
