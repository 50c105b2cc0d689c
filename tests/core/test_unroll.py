"""Laws of a sequence over the tables of cells and engines, against the reference in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws
from tests.support.laws import CASES, B, D, H, T, assert_close, draw, draw_flags, over_families, run

pytestmark = pytest.mark.usefixtures("strict", "x64")


@laws.over_others
def test_value_equals_the_reference_whatever_stands_in_the_padding(case, engine):
    problem, flags = draw(case), draw_flags()
    dirty, trash = laws.spoiled(problem, flags)
    got = run(case.cell, dirty.params, dirty.xs, dirty.carry, trash, engine=engine)
    assert_close(got, laws.expect(case, problem, flags))


@over_families
@laws.over_directions
def test_without_flags_value_equals_the_reference(case, reverse):
    problem = draw(case)
    got = run(case.cell, problem.params, problem.xs, problem.carry, reverse=reverse)
    assert_close(got, laws.expect(case, problem, {}, reverse))


@over_families
def test_without_flags_gradient_equals_the_reference(case):
    problem = draw(case)
    _, gradient = laws.run_gradient(case.cell, problem, {})
    assert_close(gradient, laws.expect_gradient(case, problem, {}))


@pytest.mark.laws("forward")
@over_families
def test_forward_mode_equals_the_reference(case):
    engine = sc.Scan(checkpoint=3)
    problem, flags = draw(case), draw_flags()
    inputs = (problem.params, problem.xs, problem.carry)
    along = jax.tree.map(lambda a: np.cos(np.arange(a.size)).reshape(a.shape), inputs)

    def loss(params, xs, carry):
        carry, ys = sc.unroll(case.cell, params, xs, carry, **flags, engine=engine)
        return laws.weigh(problem, carry, ys)

    @jax.jit
    def slopes(inputs, along):
        _, linear = jax.linearize(loss, *inputs)
        return jax.jvp(loss, inputs, along)[1], linear(*along)

    gradient = laws.expect_gradient(case, problem, flags)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
    expected = sum(np.sum(a * b) for a, b in pairs)
    assert_close(slopes(inputs, along), (expected, expected))


@pytest.mark.parametrize("name", ["gru-after-double", "function"])
def test_jacrev_equals_jacfwd(name):
    case = CASES[name]
    problem = draw(case, (1,), steps=3)

    def last(xs):
        return sc.unroll(case.cell, problem.params, xs)[1][-1]

    assert_close(*jax.jit(lambda xs: (jax.jacrev(last)(xs), jax.jacfwd(last)(xs)))(problem.xs))


@pytest.mark.laws("batch")
@over_families
def test_batch_axes_of_any_number_equal_vmap(case):
    problem, flags = draw(case, (4,)), draw_flags(batch=4)
    params, xs, carry = problem.params, problem.xs, problem.carry
    expected = run(case.cell, params, xs, carry, flags, True)

    def square(tree, axis):
        return jax.tree.map(lambda a: a.reshape(*a.shape[:axis], 2, 2, *a.shape[axis + 1 :]), tree)

    of_flags = {"lengths": 0, "mask": 1, "resets": 1}
    squared = {name: square(flag, of_flags[name]) for name, flag in flags.items()}
    got = run(case.cell, params, square(xs, 1), square(carry, 0), squared, True)
    assert_close(got, (square(expected[0], 0), square(expected[1], 1)))

    single = lambda *args: run(case.cell, params, *args, True)  # noqa: E731
    mapped = jax.vmap(single, in_axes=(1, 0, of_flags), out_axes=(0, 1))
    assert_close(mapped(xs, carry, flags), expected)


@pytest.mark.laws("vmap")
@over_families
def test_vmap_over_stacked_params_equals_a_loop(case):
    problems, many = laws.draw_many(case)
    xs = jnp.asarray(problems[0].xs)
    mapped = jax.vmap(lambda params, xs: run(case.cell, params, xs), (0, None))
    got = mapped(many, xs)
    loop = [run(case.cell, problem.params, xs) for problem in problems]
    assert_close(got, jax.tree.map(lambda *a: jnp.stack(a), *loop))


@pytest.mark.parametrize("axis", range(4))
def test_unroll_itself_can_be_mapped_over_params_and_any_axis_of_inputs(axis):
    case = CASES["gru-after-double"]
    problems, many = laws.draw_many(case)
    xs = jnp.stack([problem.xs for problem in problems], axis)
    _, ys = jax.vmap(sc.unroll, (None, 0, axis))(case.cell, many, xs)
    for problem, own in zip(problems, ys, strict=True):
        assert_close(own, run(case.cell, problem.params, problem.xs)[1])
    _, ys = jax.vmap(sc.unroll, (None, 0, None))(case.cell, many, problems[0].xs)
    assert_close(ys[1], run(case.cell, problems[1].params, problems[0].xs)[1])


@over_families
def test_without_a_carry_a_sequence_starts_with_the_fresh_one(case):
    problem = draw(case)
    carry, _ = run(case.cell, problem.params, problem.xs, None, {"lengths": np.zeros(B, int)})
    assert_close(carry, laws.fresh_rows(case))


def test_the_values_of_the_input_play_no_part_in_a_fresh_carry():
    """Whatever a user's function makes of its argument, which is of zeros."""
    echo = sc.FunctionCell(lambda params, carry, x: (carry + x, carry), lambda x: x)
    xs = np.arange(12.0).reshape(4, 3)
    assert_close(sc.unroll(echo, None, xs)[0], xs.sum(axis=0))
    assert not np.any(sc.unroll(echo, None, xs * np.nan, lengths=0)[0])
    assert_close(echo.step(None, xs[1], xs[0], True)[0], xs[0])


@pytest.mark.laws("empty")
@laws.over_plain_pairs
@pytest.mark.parametrize("shape", [(0, B), (T, 0)], ids=["T=0", "B=0"])
def test_nothing_to_read_gives_empty_outputs_and_the_initial_carry(case, engine, shape):
    params, reverse = draw(case).params, shape == (0, B)
    xs = jnp.zeros((*shape, *case.x))
    flags = laws.all_flags(*shape)
    carry, ys = sc.unroll(case.cell, params, xs, **flags, reverse=reverse, engine=engine)
    assert_close(carry, laws.fresh_rows(case, shape[1]))
    assert ys.shape == (*shape, *case.y)
    assert ys.dtype == xs.dtype
    given = jax.tree.map(jnp.asarray, draw(case, shape[1:]).carry)
    kept, _ = sc.unroll(case.cell, params, xs, given, **flags, reverse=reverse, engine=engine)
    laws.assert_same_bits(kept, given)
    carries = sc.trajectory(case.cell, params, xs, given, **flags, reverse=reverse)
    assert jax.tree.map(jnp.shape, carries) == jax.tree.map(lambda a: (shape[0], *a.shape), given)


@laws.over_built_in
def test_an_input_without_features_is_one_that_says_nothing(case):
    params = draw(case).params
    made = case.cell.init(jax.random.key(0), 0)
    assert made.w_ih.shape == (0, params.w_ih.shape[1])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(made))
    silent = run(case.cell, params, np.zeros((T, B, D)))
    without = params._replace(w_ih=np.zeros((0, params.w_ih.shape[1])))
    assert_close(run(case.cell, without, np.zeros((T, B, 0))), silent)


@pytest.mark.parametrize(
    ("name", "time_axis", "reverse"), [("gru-after-double", 1, False), ("function", -2, True)]
)
def test_time_may_stand_behind_the_batch(name, time_axis, reverse):
    case = CASES[name]
    problem, flags = draw(case), draw_flags()
    args = (case.cell, problem.params)
    swapped = {name: np.swapaxes(flags[name], 0, 1) for name in ("mask", "resets")}
    inputs = (np.swapaxes(problem.xs, 0, 1), problem.carry, flags | swapped)
    options = {"reverse": reverse, "time_axis": time_axis}
    carry, ys = run(*args, *inputs, **options)
    expected = run(*args, problem.xs, problem.carry, flags, reverse)
    assert_close((carry, jnp.swapaxes(ys, 0, 1)), expected)
    carries = laws.run_trajectory(*args, *inputs, **options)
    carries = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), carries)
    assert_close(carries, laws.expect_trajectory(case, problem, flags, reverse))


def test_time_may_stand_between_batch_axes():
    case = CASES["gru-after-double"]
    problem = draw(case, (2, 4))
    flags = {"mask": np.arange(2 * T * 4).reshape(2, T, 4) % 3 > 0}
    xs = np.moveaxis(problem.xs, 0, 1)
    carry, ys = sc.unroll(case.cell, problem.params, xs, **flags, time_axis=1)
    flags["mask"] = np.moveaxis(flags["mask"], 1, 0)
    expected = run(case.cell, problem.params, problem.xs, None, flags)
    assert_close((carry, jnp.moveaxis(ys, 1, 0)), expected)


@pytest.mark.laws("eager")
@over_families
def test_eager_equals_jit(case):
    problem, flags = draw(case), draw_flags()
    args = (case.cell, problem.params, problem.xs, problem.carry)
    assert_close(sc.unroll(*args, **flags), run(*args, flags))


@pytest.mark.laws("stream")
@laws.over_built_in
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streaming_step_by_step_gives_what_one_unroll_gives(case, dtype):
    """The same bits for the cells that most people use; for others the compiler may round apart."""
    problem = draw(case)
    params, carry = jax.tree.map(lambda a: jnp.float32(a), (problem.params, problem.carry))
    xs = jnp.asarray(problem.xs, dtype)
    # as a user compiles it: what the suite leaves out for speed could hide other bits
    compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})
    whole = compiled(sc.unroll)(case.cell, params, xs, carry)
    step, ys = compiled(lambda *args: case.cell.step(*args)), []
    for x in xs:
        carry, y = step(params, carry, x)
        ys.append(y)
    got = (carry, jnp.stack(ys))
    if case.cell in (sc.RNN(H), sc.GRU(H), sc.LSTM(H)) and not jax.config.jax_disable_jit:
        laws.assert_same_bits(got, whole)
    assert_close(got[0], whole[0], 1e-6)
    wide = jax.tree.map(lambda a: a.astype("float32"), (got[1], whole[1]))
    assert_close(*wide, 1e-6 if dtype == "float32" else 1e-2)


@pytest.mark.laws("start")
@laws.over_plain_pairs
@laws.over_directions
def test_a_reset_takes_the_carry_that_is_given_for_it(case, engine, reverse):
    """With resets alone: no step is padding."""
    problem, fresh = draw(case), draw(case, seed=1).carry
    flags = {"resets": draw_flags()["resets"]}
    args = (case.cell, problem.params, problem.xs)
    expected = laws.expect(case, problem, flags, reverse, fresh)
    assert_close(run(*args, problem.carry, flags, reverse, engine, fresh=fresh), expected)


@pytest.mark.laws("begin")
@over_families
@laws.over_directions
def test_a_sequence_starts_with_the_carry_that_resets_take(case, reverse):
    problem, fresh = draw(case), draw(case, seed=1).carry
    flags = laws.all_flags(resets=draw_flags()["resets"])
    args = (case.cell, problem.params, problem.xs, None, flags, reverse)
    begun = laws.expect(case, problem._replace(carry=fresh), flags, reverse, fresh)
    assert_close(run(*args, fresh=fresh), begun)
    carries = laws.run_trajectory(*args, fresh=fresh)
    assert_close(jax.tree.map(lambda a: a[0 if reverse else -1], carries), begun[0])


def test_lengths_above_127_are_counted():
    params = sc.RNNParams(np.ones((1, 1)), np.ones((1, 1)), None)
    xs, lengths = np.ones((300, 2, 1)), np.array([130, 299], "int16")
    carry, _ = sc.unroll(sc.RNN(1, "identity", bias="none"), params, xs, lengths=lengths)
    assert carry.ravel().tolist() == [130, 299]


def test_a_fresh_carry_may_be_a_number():
    count = sc.FunctionCell(lambda p, n, x: (n + 1.0, n), lambda x: 0.0)
    resets = np.array([False, False, True, False])
    carry, ys = sc.unroll(count, None, np.ones((4, 1)), resets=resets)
    assert float(carry) == 2
    assert ys.tolist() == [0, 1, 0, 1]


def test_a_cell_may_close_over_what_is_traced():
    @jax.jit
    def total(scale):
        cell = sc.FunctionCell(lambda p, c, x: (c + scale * x, c), jnp.zeros_like)
        return sum(sc.unroll(cell, None, np.ones((3, 1)))[0][0] for _ in range(2))

    assert float(total(0.5)) == 3
    assert float(jax.grad(total)(0.5)) == 6
    assert jax.vmap(total)(jnp.array([1.0, 2.0])).tolist() == [6, 12]


@over_families
def test_the_callers_carry_may_be_of_another_floating_dtype(case):
    problem = draw(case)
    carry = jax.tree.map(np.float32, problem.carry)
    wide = jax.tree.map(np.float64, carry)
    args = (case.cell, problem.params, problem.xs)
    assert_close(run(*args, carry), run(*args, wide))
