"""Laws of the causal convolution: it equals a loop over a window, and that of `jax.lax`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws, reference
from tests.support.laws import B, H, T, all_flags, assert_close, assert_same_bits, draw_flags

pytestmark = pytest.mark.usefixtures("strict", "x64")

KEY = jax.random.key(0)
CONVS = {
    "one": sc.CausalConv(1, "tanh"),
    "two": sc.CausalConv(2, "silu", bias="none"),
    "four": sc.CausalConv(4),
    "long": sc.CausalConv(T + 2, "gelu"),
}
over_convs = pytest.mark.parametrize("name", CONVS)


def problem_of(name, seed=0):
    """Return a case and a problem of it, on inputs of H features."""
    conv, rng = CONVS[name], np.random.default_rng(seed)
    step = functools.partial(reference.conv_step, activation=conv.activation)
    case = laws.Case(conv, step, np.zeros((conv.width - 1, H)))
    shapes = jax.eval_shape(lambda: conv.init(KEY, H))
    params = jax.tree.map(lambda a: 0.6 * rng.normal(size=a.shape), shapes)
    carry, weights = (rng.normal(size=(B, conv.width - 1, H)) for _ in range(2))
    xs, weigh_ys = (rng.normal(size=(T, B, H)) for _ in range(2))
    return case, laws.Problem(params, xs, carry, weights, weigh_ys)


@over_convs
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    "flagged",
    ["all", *(pytest.param(f, marks=pytest.mark.slow) for f in ("no flags", "lengths", "resets"))],
)
def test_values_and_gradients_equal_a_loop_over_a_window(name, reverse, flagged):
    case, problem = problem_of(name)
    flags = {} if flagged == "no flags" else draw_flags(seed=3)
    if flagged in ("lengths", "resets"):
        flags = {flagged: flags[flagged]}
    clean = problem
    if flagged == "all":
        problem, flags = laws.spoiled(problem, flags)
    out, gradient = laws.run_gradient(case.cell, problem, flags, reverse)
    if flagged == "all":
        flags = flags | {"resets": flags["resets"] & laws.valid_steps(flags)}
    assert_close(out, laws.expect(case, clean, flags, reverse))
    assert_close(gradient, laws.expect_gradient(case, clean, flags, reverse))


@over_convs
def test_after_a_reset_the_window_is_the_one_that_was_given(name):
    case, problem = problem_of(name)
    flags = draw_flags(seed=5)
    fresh = np.random.default_rng(1).normal(size=problem.carry.shape)
    for reverse in (False, True):
        got = laws.run(
            case.cell, problem.params, problem.xs, problem.carry, flags, reverse, fresh=fresh
        )
        assert_close(got, laws.expect(case, problem, flags, reverse, fresh))


@over_convs
def test_steps_equal_the_loop_and_the_carry_after_each_is_the_window(name):
    case, problem = problem_of(name)
    resets = draw_flags(seed=2)["resets"]
    carry, ys = problem.carry, []
    for x, reset in zip(problem.xs, resets, strict=True):
        carry, y = case.cell.step(problem.params, carry, x, reset)
        ys.append(y)
    assert_close((carry, jnp.stack(ys)), laws.expect(case, problem, {"resets": resets}))
    flags = draw_flags(seed=2)
    carries = laws.run_trajectory(case.cell, problem.params, problem.xs, problem.carry, flags)
    assert_close(carries, laws.expect_trajectory(case, problem, flags, False))


@pytest.mark.parametrize("width", [1, 4, T + 2])
def test_it_is_the_convolution_of_jax(width):
    conv = sc.CausalConv(width)
    params, xs = conv.init(KEY, H), jnp.asarray(np.random.default_rng(0).normal(size=(T, H)))
    params = jax.tree.map(lambda a: a.astype(float) + 0.5, params)
    expected = jax.lax.conv_general_dilated(
        xs[None],
        params.w[:, None],
        (1,),
        [(width - 1, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=H,
    )[0]
    carry, ys = sc.unroll(conv, params, xs)
    assert_close(ys, expected + params.b)
    window = jnp.concatenate([jnp.zeros((width - 1, H)), xs])
    assert_same_bits(carry, window[window.shape[0] - (width - 1) :])


def test_a_window_of_nan_is_not_read_where_the_first_step_starts_a_sequence():
    case, problem = problem_of("four")
    resets = np.zeros((T, B), bool)
    resets[2] = True
    flags = all_flags(mask=np.arange(T)[:, None] + np.zeros((1, B)) > 1, resets=resets)
    spoiled = problem._replace(carry=np.full_like(problem.carry, np.nan))
    (_, ys), gradient = laws.run_gradient(case.cell, spoiled, flags)
    clean = problem._replace(carry=np.zeros_like(problem.carry))
    assert_close(ys, laws.expect(case, clean, flags)[1])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient[:2]))


def test_any_number_of_batch_axes_and_no_step():
    conv = sc.CausalConv(3)
    params, xs = conv.init(KEY, H), np.random.default_rng(0).normal(size=(T, 2, 2, H))
    xs, mask = xs.astype("float32"), np.random.default_rng(1).random((T, 2, 2)) < 0.7
    carry, ys = sc.unroll(conv, params, xs, mask=mask)
    one, alone = sc.unroll(conv, params, xs[:, 1, 0], mask=mask[:, 1, 0])
    assert_close((carry[1, 0], ys[:, 1, 0]), (one, alone), 1e-6)
    start = jnp.ones((2, 2, 2, H), "float32")
    carry, ys = sc.unroll(conv, params, xs[:0], start, mask=mask[:0])
    assert_same_bits(carry, start)
    assert ys.shape == (0, 2, 2, H)


def test_narrow_inputs_are_summed_in_float32():
    conv = sc.CausalConv(3, w_init=sc.initializers.ones, param_dtype="bfloat16")
    xs = jnp.array([[256.0], [1.0], [1.0]], "bfloat16")
    carry, ys = sc.unroll(conv, conv.init(KEY, 1), xs)
    assert (carry.dtype, ys.dtype) == ("float32", "bfloat16")
    assert ys.ravel().tolist() == [256, 256, 258]


def test_a_wrong_argument_says_what_was_expected():
    with pytest.raises(ValueError, match="width: expected an int >= 1, got 0"):
        sc.CausalConv(0)
    with pytest.raises(ValueError, match="activation: expected one of"):
        sc.CausalConv(4, "swish")
    conv = sc.CausalConv(4)
    with pytest.raises(ValueError, match=r"params: CausalConv\(\) on inputs of 2 features"):
        sc.unroll(conv, conv.init(KEY, 3), jnp.ones((T, B, 2)))
