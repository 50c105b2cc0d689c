"""Laws of `GRUD` on its own inputs: missing values, flags and the time between steps.

The tables of `tests/support/laws.py` have it too, on inputs made of one array.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import laws, reference
from tests.support.laws import B, D, H, T, assert_close, assert_same_bits

FORMS = {
    "paper": (sc.GRUD(H), {}),
    "authors": (
        sc.GRUD(H, "sigmoid", gate_activation="hard_sigmoid", decayed_mix=False, bias="none"),
        {"act": "sigmoid", "hard": True, "decayed": False},
    ),
}
over_forms = pytest.mark.parametrize("form", FORMS)


def draw(form="paper", seed=0):
    """Return a problem of the laws whose inputs are `GRUDInputs`, NaN where nothing is observed."""
    cell, options = FORMS[form]
    fresh = sc.GRUDCarry(np.zeros(H), np.zeros(D), np.zeros(D), np.zeros(1))
    case = laws.Case(cell, functools.partial(step_of_row, **options), fresh)
    problem, rng = laws.draw(case, seed=seed), np.random.default_rng(seed + 1)
    observed = rng.random((T, B, D)) < 0.5
    elapsed = rng.exponential(size=(T, B, 1))
    values = np.where(observed, problem.xs, np.nan)
    return case, problem._replace(xs=sc.GRUDInputs(values, observed, elapsed))


def step_of_row(params, carry, x, **options):
    """A step of the reference, whose input is one row: values, flags and the time."""
    return reference.grud_step(params, carry, (x[:D], x[D : 2 * D].real > 0, x[-1:]), **options)


def as_rows(problem):
    """Return the problem with inputs [T, B, 2 D + 1], zero where nothing is observed."""
    values, observed, elapsed = problem.xs
    rows = [np.where(observed, values, 0), observed, elapsed]
    return problem._replace(xs=np.concatenate(rows, axis=-1))


@over_forms
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64", "strict")
def test_values_and_gradients_equal_the_equations_under_all_flags(form, reverse):
    case, problem = draw(form)
    flags = laws.draw_flags()
    expected = laws.expect(case, as_rows(problem), flags, reverse)
    dirty, gaps = problem.xs, ~laws.valid_steps(flags)
    xs = jax.tree.map(jnp.asarray, dirty)
    xs = xs._replace(  # what stands in the padding is not read
        values=jnp.where(gaps[..., None], jnp.nan, xs.values),
        elapsed=jnp.where(gaps[..., None], jnp.nan, xs.elapsed),
    )

    def run(params, values, elapsed, carry):
        inputs = xs._replace(values=values, elapsed=elapsed)
        out = sc.unroll(case.cell, params, inputs, carry, **flags, reverse=reverse)
        return laws.weigh(problem, *out), out

    args = (problem.params, xs.values, xs.elapsed, problem.carry)
    gradient, out = jax.jit(jax.grad(run, (0, 1, 2, 3), has_aux=True))(*args)
    assert_close(out, expected)
    params, rows, carry = laws.expect_gradient(case, as_rows(problem), flags, reverse)
    seen = problem.xs.observed & laws.valid_steps(flags)[..., None]
    values = np.where(seen, rows[..., :D], 0)  # no gradient where nothing was observed
    assert_close(gradient, (params, values, rows[..., -1:], carry))


@pytest.mark.parametrize("engine", [sc.Scan(3), sc.Scan(checkpoint="sqrt"), sc.Scan(checkpoint=3)])
@pytest.mark.usefixtures("x64")
def test_steps_equal_an_unroll_on_every_engine(engine):
    case, problem = draw()
    cell, params, xs = case.cell, problem.params, jax.tree.map(jnp.asarray, problem.xs)
    resets = laws.draw_flags()["resets"]
    carry, ys, step = problem.carry, [], jax.jit(cell.step)
    for t in range(T):
        x = jax.tree.map(lambda a, t=t: a[t], xs)
        carry, y = step(params, carry, x, resets[t], reset_carry=case.cell.init_carry(x))
        ys.append(y)
    unroll = jax.jit(sc.unroll, static_argnames="time_axis")
    got = unroll(cell, params, xs, problem.carry, resets=resets, engine=engine)
    assert_close(got, (carry, jnp.stack(ys)))
    last = sc.trajectory(cell, params, xs, problem.carry, resets=resets)
    assert_close(jax.tree.map(lambda a: a[-1], last), carry)
    first = jax.tree.map(lambda a: a.swapaxes(0, 1), xs)
    _, batch_first = unroll(cell, params, first, problem.carry, resets=resets.T, time_axis=1)
    assert_close(batch_first.swapaxes(0, 1), jnp.stack(ys))


def test_the_time_before_the_first_step_of_a_sequence_is_not_read():
    case, problem = draw()
    resets = np.zeros((T, B), bool)
    resets[3] = True
    xs = jax.tree.map(lambda a: jnp.asarray(a, bool if a.dtype == bool else "float32"), problem.xs)
    params = jax.tree.map(jnp.float32, problem.params)

    def loss(params, elapsed):
        _, ys = sc.unroll(case.cell, params, xs._replace(elapsed=elapsed), resets=resets)
        return jnp.sum(ys**2), ys

    grad = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    starts = jnp.zeros((T, 1, 1), bool).at[jnp.array([0, 3])].set(True)
    assert_same_bits(
        grad(params, jnp.where(starts, jnp.nan, xs.elapsed)),
        grad(params, jnp.where(starts, 0, xs.elapsed)),
    )


def test_a_value_decays_to_the_mean_and_time_adds_up_from_when_it_was_observed():
    cell = sc.GRUD(1, decay_init=sc.initializers.ones)
    params = cell.init(jax.random.key(0), 2)
    observed = jnp.array([[True, False], [False, False], [False, True], [False, False]])
    times = jnp.array([[9.0], [0.5], [1.0], [0.25]])
    xs = sc.GRUDInputs(jnp.full((4, 2), 2.0), observed, times)
    carry, _ = sc.unroll(cell, params, xs)
    assert_close(carry.since, jnp.array([1.75, 0.25]), 1e-6)
    assert_close(carry.last, jnp.array([2.0, 2.0]), 0)
    fresh = cell.init_carry(jax.tree.map(lambda a: a[0], xs))
    carries = sc.trajectory(cell, params, xs)
    assert_close(carries.since, jnp.array([[0, 0], [0.5, 0.5], [1.5, 0], [1.75, 0.25]]), 1e-6)
    assert_close(carries.last[:, 1], jnp.array([0.0, 0, 2, 2]), 0)  # 0 is the mean
    assert not jax.tree.leaves(jax.tree.map(jnp.any, fresh))[0]


def test_flags_may_be_numbers_and_what_is_hidden_is_not_read():
    case, problem = draw()
    params = jax.tree.map(jnp.float32, problem.params)
    values, observed, elapsed = (jnp.asarray(a, jnp.float32) for a in problem.xs)
    flags = observed > 0
    expected = sc.unroll(case.cell, params, sc.GRUDInputs(values, flags, elapsed))
    for hidden in (0.0, jnp.inf, -1e30):
        xs = sc.GRUDInputs(jnp.where(flags, values, hidden), observed, elapsed)
        assert_same_bits(sc.unroll(case.cell, params, xs), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtypes(dtype):
    _, problem = draw()
    cell = sc.GRUD(H, param_dtype=dtype)
    values = jnp.asarray(problem.xs.values, dtype)
    for times in (dtype, "float32"):
        xs = sc.GRUDInputs(values, jnp.asarray(problem.xs.observed), jnp.ones((T, B, 1), times))
        params = cell.init(jax.random.key(0), D)
        carry, ys = sc.unroll(cell, params, xs)
        assert laws.dtypes(params) == {ys.dtype} == {jnp.dtype(dtype)}
        assert laws.dtypes(carry) == {jnp.dtype("float32")}
        wide = jax.tree.map(jnp.float32, params)
        exact = sc.unroll(sc.GRUD(H), wide, xs._replace(values=values.astype("float32")))[1]
        assert_close(ys.astype("float32"), exact, {"bfloat16": 2e-2, "float16": 3e-3}.get(dtype, 0))


def test_members_under_vmap_and_any_number_of_batch_axes():
    case, problem = draw()
    xs = jax.tree.map(lambda a: jnp.asarray(a, bool if a.dtype == bool else "float32"), problem.xs)
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(lambda key: case.cell.init(key, D))(keys)
    _, ys = jax.vmap(sc.unroll, (None, 0, None))(case.cell, many, xs)
    one = jax.tree.map(lambda a: a[1], many)
    assert_close(ys[1], sc.unroll(case.cell, one, xs)[1], 1e-6)
    alone = jax.tree.map(lambda a: a[:, 2], xs)
    assert_close(ys[1, :, 2], sc.unroll(case.cell, one, alone)[1], 1e-6)
    square = jax.tree.map(lambda a: a[:, None], xs)
    assert_close(ys[1][:, None], sc.unroll(case.cell, one, square)[1], 1e-6)


def test_layers_and_modules_run_it():
    nnx = pytest.importorskip("flax.nnx")
    _, problem = draw()
    xs = jax.tree.map(lambda a: jnp.asarray(a, bool if a.dtype == bool else "float32"), problem.xs)
    net = sc.Stack((sc.Recurrent(sc.GRUD(H), learned_carry=True), sc.Dense(2)))
    params = net.init(jax.random.key(0), D)
    assert sc.unroll(net, params, xs)[1].shape == (T, B, 2)
    assert "(T, B, 3)" in sc.summary(net, D)
    _, ys = sc.nnx.RNN(sc.Bidirectional(sc.GRUD(H)), input_size=D, rngs=nnx.Rngs(0))(xs)
    assert ys.shape == (T, B, 2 * H)
    cell = sc.Zoneout(sc.GRUD(H), 0.5)
    _, ys = sc.unroll(cell, params[0].cell, xs, key=jax.random.key(1))
    assert jnp.all(jnp.isfinite(ys))


def test_dropout_drops_values_and_neither_flags_nor_times():
    ones = jnp.ones((T, B, D))
    xs = sc.GRUDInputs(ones, ones, ones[..., :1])  # flags may be floats, too
    cell = sc.VariationalDropout(sc.Zoneout(sc.GRUD(H)), input_rate=0.5)
    params = cell.init(jax.random.key(0), D)
    _, _, (seen, _) = cell.noisy(params, xs, jax.random.key(1))
    assert jnp.all(seen.observed == 1)
    assert jnp.all(seen.elapsed == 1)
    assert set(seen.values.ravel().tolist()) == {0, 2}
    assert jnp.all(seen.values == seen.values[0])  # one mask for all steps


def test_inputs_of_another_kind_are_refused():
    cell, x = sc.GRUD(H), sc.GRUDInputs(jnp.ones((B, D)), jnp.ones((B, D), bool), jnp.ones((B, 1)))
    params, carry = cell.init(jax.random.key(0), D), cell.init_carry(x)
    for wrong in (x.values, tuple(x), x._asdict()):
        with pytest.raises(
            TypeError, match=r"xs: expected GRUDInputs\(values, observed, elapsed\)"
        ):
            cell.step(params, carry, wrong)
    for wrong in (x._replace(elapsed=x.values), x._replace(observed=x.observed[:, :1])):
        with pytest.raises(ValueError, match=r"xs: .*elapsed \[\*B, 1\], the time since the last"):
            cell.step(params, carry, wrong)
    with pytest.raises(TypeError, match="floating or bool dtype, got int32"):
        cell.step(params, carry, x._replace(elapsed=jnp.ones((B, 1), int)))
    with pytest.raises(ValueError, match="on inputs of 2 features"):
        cell.step(cell.init(jax.random.key(0), 5), carry, x)
    assert sc.debug.check(cell, D, laws=["step"]).ok
    for engine in (sc.Deferred(), sc.PallasTriton(interpret=True)):
        with pytest.raises(ValueError, match="it has two products in sequence"):
            sc.select_engine(cell, jax.tree.map(lambda a: a[None], x), engine=engine)
