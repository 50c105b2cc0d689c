"""Laws of lengths, masks, resets and direction, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seqcells as sc
from tests.support import laws
from tests.support.laws import CASES, B, D, T, all_flags, assert_close, draw, over_plain_pairs, run

pytestmark = pytest.mark.usefixtures("strict", "x64")


@pytest.mark.laws("reference")
@laws.over_able
def test_value_and_gradient_equal_the_reference_whatever_stands_in_the_padding(case, engine):
    check_against_reference(case, engine, reverse=False)


@pytest.mark.laws("reverse")
@laws.over_pairs
def test_reverse_value_and_gradient_equal_the_reference(case, engine):
    check_against_reference(case, engine, reverse=True)


def outputs(case, problem, flags, reverse=False, engine=sc.Scan()):
    """The carry and ys, by the program that has the gradient too: all laws share it."""
    return laws.run_gradient(case.cell, problem, flags, reverse, engine)[0]


def cut(problem, steps, xs):
    """A problem of some of the steps."""
    return problem._replace(xs=xs, weigh_ys=problem.weigh_ys[steps])


GRADIENTS = {}  # of the reference, which takes as long as compiling an engine


def check_against_reference(case, engine, reverse):
    problem, flags = draw(case), laws.draw_flags()
    out, gradient = laws.run_gradient(case.cell, *laws.spoiled(problem, flags), reverse, engine)
    assert_close(out, laws.expect(case, problem, flags, reverse))
    if (case.cell, reverse) not in GRADIENTS:
        expected = laws.expect_gradient(case, problem, flags, reverse)
        GRADIENTS[case.cell, reverse] = expected
    assert_close(gradient, GRADIENTS[case.cell, reverse])
    assert not np.any(np.asarray(gradient[1])[~laws.valid_steps(flags)])  # exactly zero at padding


@pytest.mark.laws("packed")
@over_plain_pairs
@laws.over_directions
def test_packed_with_resets_equals_separate_sequences(case, engine, reverse):
    problem = draw(case)._replace(carry=laws.fresh_rows(case))
    params, xs, fresh = problem[:3]
    resets = np.zeros((T, B), bool)
    resets[[0, 3, 4]] = True  # three sequences: of 3 steps, of 1 and of 3
    _, ys = outputs(case, problem, all_flags(resets=resets), reverse, engine)
    way = -1 if reverse else 1
    for steps in (slice(0, 3), slice(4, 7)):
        starts = np.zeros((3, B), bool)
        starts[0] = not (reverse and steps.stop == T)  # which nothing before it ends
        flags = all_flags(steps=3, resets=starts)
        _, alone = outputs(case, cut(problem, slice(0, 3), xs[steps][::way]), flags)
        assert_close(ys[steps][::way], alone)
    assert_close(ys[3], case.cell.step(params, fresh, jnp.asarray(xs[3]), resets[3])[1])


@pytest.mark.laws("lengths")
@over_plain_pairs
def test_lengths_equal_truncation(case, engine):
    n = 3
    problem, lengths = draw(case), all_flags(lengths=np.full(B, n))
    short = cut(problem, slice(0, n), problem.xs[:n])
    got, gradient = laws.run_gradient(case.cell, problem, lengths, False, engine)
    alone = laws.run_gradient(case.cell, short, all_flags(steps=n), False, sc.Scan())
    (carry, ys), (d_params, d_xs, d_carry) = alone
    assert_close(got, (carry, jnp.concatenate([ys, np.zeros((T - n, B, *case.y))])))
    padded = jnp.concatenate([d_xs, np.zeros((T - n, B, *case.x))])
    assert_close(gradient, (d_params, padded, d_carry))


@pytest.mark.laws("mask")
@over_plain_pairs
@laws.over_directions
def test_a_mask_equals_compression(case, engine, reverse):
    problem = draw(case)
    kept = np.array([False, True, False, False, True, True, False])
    resets = np.zeros((T, B), bool)
    resets[4] = True
    flags = all_flags(mask=np.tile(kept[:, None], B), resets=resets)
    carry, ys = outputs(case, problem, flags, reverse, engine)
    flags, short = all_flags(steps=3, resets=resets[kept]), cut(problem, kept, problem.xs[kept])
    assert_close((carry, ys[kept]), outputs(case, short, flags, reverse))
    assert not np.any(ys[~kept])


@laws.over_families
def test_reverse_reads_every_sequence_from_its_own_last_valid_step(case):
    problem, lengths = draw(case), np.array([T, 5, 2])
    flipped = problem.xs.copy()
    for b, n in enumerate(lengths):
        flipped[:n, b] = problem.xs[:n, b][::-1]
    flags = all_flags(lengths=lengths)
    backward = outputs(case, problem, flags, True)
    forward = outputs(case, problem._replace(xs=flipped), flags)
    assert_close(backward[0], forward[0])
    for b, n in enumerate(lengths):
        assert_close(backward[1][:n, b], forward[1][:n, b][::-1])


@pytest.mark.laws("zero")
@over_plain_pairs
def test_a_length_of_zero_returns_the_initial_carry(case, engine):
    problem, flags = draw(case), all_flags(lengths=np.zeros(B, int))
    carry, ys = outputs(case, problem, flags, False, engine)
    laws.assert_same_bits(carry, jax.tree.map(jnp.asarray, problem.carry))
    assert not np.any(ys)


@pytest.mark.laws("compose")
@over_plain_pairs
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,  # a red run must be red again
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(
    lengths=hnp.arrays(int, B, elements=st.integers(0, T)),
    mask=hnp.arrays(bool, (T, B)),
    resets=hnp.arrays(bool, (T, B)),
    reverse=st.booleans(),
)
def test_lengths_masks_resets_and_reverse_compose(case, engine, lengths, mask, resets, reverse):
    problem, flags = draw(case), {"lengths": lengths, "mask": mask, "resets": resets}
    got = outputs(case, *laws.spoiled(problem, flags), reverse, engine)
    assert_close(got, laws.expect(case, problem, flags, reverse))


def tally(params, carry, x):
    """Put out leaves of every kind of number; none is zero or False of itself."""
    h, n = carry
    new = (jnp.tanh(h + params * x), n + 1)
    return new, {"float": new[0] + 2, "int": new[1], "bool": new[0] > -2}


TALLY = sc.FunctionCell(
    tally,
    lambda x: (jnp.zeros_like(x), jnp.zeros_like(x, shape=x.shape[:-1], dtype=int)),
    lambda key, size: jnp.ones(size),
)
MODELS = {"cell": TALLY, "layer": sc.Recurrent(TALLY), "stack": sc.Stack((sc.GRU(D), TALLY))}


@pytest.mark.parametrize(("way", "reverse"), [("scan", False), ("chunk3", True)])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_outputs_of_every_dtype_are_zero_and_carries_held_at_padding(model, way, reverse):
    params, xs = model.init(jax.random.key(0), D), draw(CASES["function"]).xs
    flags = laws.draw_flags()
    valid = laws.valid_steps(flags)
    args = (model, params, xs, None, flags, reverse, laws.ENGINES[way])
    carry, ys = run(*args)
    _, counts = carry[-1] if isinstance(model, sc.Stack) else carry
    np.testing.assert_array_equal(counts, tallied(valid, flags["resets"], reverse))
    kinds = {name: leaf.dtype.kind for name, leaf in ys.items()}
    assert kinds == {"float": "f", "int": "i", "bool": "b"}
    for leaf in ys.values():
        assert np.all(np.asarray(leaf)[valid] != 0)
        assert not np.any(np.asarray(leaf)[~valid])


def tallied(valid, resets, reverse):
    """The valid steps that are read since the last start of a sequence, [B]."""
    counts = []
    for steps, starts in zip(valid.T, resets.T, strict=True):
        parts = laws.reference.cut(np.flatnonzero(steps), starts)
        counts.append(len(parts[0 if reverse else -1]) if parts else 0)
    return counts


@pytest.mark.laws("carries")
@laws.over_families
@laws.over_directions
def test_a_trajectory_is_the_carry_after_every_step_held_at_padding(case, reverse):
    problem, flags = draw(case), laws.draw_flags()
    dirty, trash = laws.spoiled(problem, flags)
    got = laws.run_trajectory(case.cell, dirty.params, dirty.xs, dirty.carry, trash, reverse)
    assert_close(got, laws.expect_trajectory(case, problem, flags, reverse))


@laws.over_families
def test_an_infinite_input_gives_what_the_equations_give(case):
    problem = draw(case)
    problem.xs[3, 1, 0], problem.xs[4, 2, 1] = np.inf, -np.inf
    got = run(case.cell, problem.params, problem.xs, problem.carry)
    with np.errstate(all="ignore"):
        assert_close(got, laws.expect(case, problem, {}))


@pytest.mark.laws("nan")
@over_plain_pairs
@laws.over_directions
def test_not_a_number_that_is_valid_is_not_hidden(case, engine, reverse):
    problem, at = draw(case), 3
    xs = problem.xs.copy()
    xs[at, 1] = np.nan
    carry, ys = outputs(case, problem._replace(xs=xs), all_flags(), reverse, engine)
    struck = np.zeros((T, B, *case.y), bool)
    struck[: at + 1 if reverse else T, 1] = True
    if not reverse:
        struck[:at] = False
    np.testing.assert_array_equal(np.isnan(ys), struck)
    carry = carry.h if isinstance(carry, sc.GRUDCarry) else carry  # its times are not struck
    for leaf in jax.tree.leaves(carry):
        np.testing.assert_array_equal(np.isnan(leaf).reshape(B, -1).all(1), [False, True, False])


@pytest.mark.laws("reset")
@over_plain_pairs
def test_not_a_number_before_a_reset_stays_there(case, engine):
    """In the first carry, before padding, and in a gap: values and gradients are those without."""
    problem = draw(case)
    resets, mask = np.zeros((T, B), bool), np.ones((T, B), bool)
    resets[[1, 4]], mask[[0, 2, 3]] = True, False
    flags = all_flags(resets=resets, mask=mask)
    xs = np.where(laws.whole(mask, problem.xs), problem.xs, np.nan)
    carry = jax.tree.map(lambda a: np.full_like(a, np.nan), problem.carry)
    dirty = problem._replace(xs=xs, carry=carry)
    got = laws.run_gradient(case.cell, dirty, flags, False, engine)
    assert_close(got, laws.run_gradient(case.cell, problem, flags, False, engine))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(got[1][2]))  # dL/dcarry


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(("gru-after-double", "scan"), ("lstm-bias", "sqrt")),
        *(("mingru-identity-bias", "associative"), ("gdn-heads", "chunkwise")),
    ],
)
def test_a_sequence_after_one_of_nan_is_as_if_alone(name, way):
    case, problem = CASES[name], draw(CASES[name])
    resets, xs = np.zeros((T, B), bool), problem.xs.copy()
    resets[3], xs[:3] = True, np.nan
    flags, late = all_flags(resets=resets), problem._replace(weigh_ys=problem.weigh_ys.copy())
    late.weigh_ys[:3] = 0
    got, expected = (
        laws.run_gradient(case.cell, one, flags, False, laws.ENGINES[way])
        for one in (late._replace(xs=xs), late)
    )
    ((_, ys), (_, d_xs, _)), ((_, others), (_, d_others, _)) = got, expected
    assert_close((ys[3:], d_xs[3:]), (others[3:], d_others[3:]))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_lengths_are_integers_of_any_dtype(dtype):
    case = CASES["gru-after-double"]
    problem, flags = draw(case), {"lengths": np.array([T, 5, 0])}
    given = {"lengths": jnp.asarray(flags["lengths"], dtype)}
    got = run(case.cell, problem.params, problem.xs, problem.carry, given)
    assert_close(got, laws.expect(case, problem, flags))


@pytest.mark.parametrize("kind", [jnp.array, np.array, list], ids=["jax", "numpy", "list"])
def test_concrete_lengths_may_be_closed_over_under_jit_and_are_checked(kind):
    """Inside jit every operation on them is traced, but they are not."""
    case = CASES["gru-after-double"]
    problem, lengths = draw(case), [T, 5, 0]
    args = (case.cell, problem.params, problem.xs, problem.carry)

    def closed(lengths):
        return jax.jit(lambda *args: sc.unroll(case.cell, *args, lengths=lengths))(*args[1:])

    assert_close(closed(kind(lengths)), run(*args, {"lengths": np.array(lengths)}))
    with pytest.raises(ValueError, match=f"lengths: .* T={T}"):
        closed(kind([T, T + 1, 0]))


def test_traced_lengths_count_as_the_nearest_that_can_be():
    case = CASES["gru-after-double"]
    problem = draw(case)
    args = (case.cell, problem.params, problem.xs, problem.carry)
    outside = run(*args, {"lengths": np.array([T + 5, -3, 4])})
    assert_close(outside, run(*args, {"lengths": np.array([T, 0, 4])}))
