"""Newton's method in time: what it returns, what it reports, and what it must not get wrong."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import train
from seqcells._flags import Flags
from seqcells.engines import ENGINES
from seqcells.engines.newton import affine, jacobians
from seqcells.engines.newton.layout import layout_of
from seqcells.engines.newton.recurrence import Given, Recurrence, project
from tests.support.laws import CASES, assert_close, draw, loss, weigh

pytestmark = pytest.mark.usefixtures("strict")

EPS = float(np.finfo(np.float32).eps)


def rnn(gain, size=8, seed=0):
    """An Elman net whose recurrent matrix has a spectral radius of about `gain`."""
    keys = jax.random.split(jax.random.key(seed), 2)
    w_hh = gain * size**-0.5 * jax.random.normal(keys[1], (size, size))
    w_ih = jax.random.normal(keys[0], (2, size)) / 2**0.5
    return sc.RNN(size), sc.RNNParams(w_ih, w_hh, jnp.zeros(size))


def inputs(steps, *batch, seed=1):
    return jax.random.normal(jax.random.key(seed), (steps, *batch, 2))


def gru(size=4, seed=0):
    cell = sc.GRU(size)
    return cell, cell.init(jax.random.key(seed), 2)


def largest(a, b):
    return float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))


@pytest.mark.parametrize("scan", affine.SCANS)
@pytest.mark.usefixtures("x64")
def test_an_affine_recurrence_is_run_alike_in_all_ways(scan):
    rng = np.random.default_rng(0)
    for steps, size in ((1, 2), (5, 1), (70, 3)):
        a = 0.5 * rng.normal(size=(steps, 2, size, size))
        b, y = rng.normal(size=(steps, 2, size, 4)), rng.normal(size=(2, size, 4))
        ys = jax.jit(functools.partial(affine.solve, scan))(a, b, y)
        for t in range(steps):
            y = a[t] @ y + b[t]
            np.testing.assert_allclose(ys[t], y, 1e-12, 1e-12)


def test_after_k_iterations_the_first_k_steps_are_right():
    """With slopes near 2 nothing but this law makes an iteration right: later steps are far off."""
    cell, params = rnn(3.0)
    xs = inputs(24)
    exact = sc.unroll(cell, params, xs, engine=sc.Scan())[1]
    for k in (1, 4, 8):
        _, ys, report = sc.newton(cell, params, xs, max_iters=k, on_fail="flag")
        assert not report.converged
        assert int(report.iterations) == k
        assert largest(ys[:k], exact[:k]) < 1e-4
        assert largest(ys, exact) > 0.1
    _, ys, report = sc.newton(cell, params, xs, on_fail="flag")
    assert int(report.iterations) <= len(xs)


@pytest.mark.parametrize("jacobian", ["full", "diagonal"])
@pytest.mark.parametrize("cell", [sc.MinGRU(4), sc.LRU(4), sc.RetNet(4)], ids=repr)
def test_a_linear_cell_takes_one_iteration(cell, jacobian):
    if isinstance(cell, sc.RetNet) and jacobian == "diagonal":
        pytest.skip("its Jacobian is diagonal, but its step is not elementwise in JAX's operations")
    size = 4 if isinstance(cell, sc.LRU) else 2
    params = cell.init(jax.random.key(0), size)
    xs = jax.random.normal(jax.random.key(1), (50, 3, size))
    _, ys, report = sc.newton(cell, params, xs, jacobian=jacobian, max_iters=1)
    assert report.iterations.tolist() == [1] * 3
    assert_close(ys, sc.unroll(cell, params, xs, engine=sc.Scan())[1], 2e-5)
    assert report.converged.all()


SETTINGS = {
    "guess": {},
    "chunk": {"chunk": 7},
    "diagonal": {"jacobian": "diagonal"},
    "damping": {"damping": 0.3},
    "bfloat16": {"scan_dtype": "bfloat16"},
    "associative": {"scan": "associative"},
    "blocked": {"scan": "blocked", "chunk": 40},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_solution_does_not_depend_on_the_settings(name):
    cell, params = gru()
    xs = inputs(50, 2)
    options = dict(SETTINGS[name])
    if name == "guess":
        options["guess"] = jax.random.normal(jax.random.key(2), (50, 2, 4))
    _, ys, report = sc.newton(cell, params, xs, on_fail="flag", **options)
    _, plain, one = sc.newton(cell, params, xs, on_fail="flag")
    assert report.converged.all()
    assert largest(ys, plain) < 4 * EPS
    if name != "diagonal":  # whose bound is another one
        np.testing.assert_allclose(report.error_bound, one.error_bound, 0.05)
    np.testing.assert_allclose(report.error_estimate, one.error_estimate, 0.05)


def test_a_solution_as_guess_needs_no_iteration_and_a_near_one_few():
    cell, params = gru()
    xs, flags = inputs(50, 2), {"reverse": True, "lengths": jnp.array([50, 31])}
    guess = sc.trajectory(cell, params, xs, **flags)
    assert not sc.newton(cell, params, xs, guess=guess, **flags)[2].iterations.any()
    moved = jax.tree.map(lambda a: a * 1.01, params)
    cold, warm = (
        sc.newton(cell, moved, xs, guess=start, **flags)[2].iterations for start in (None, guess)
    )
    assert np.all(warm < cold)
    batch_first = guess.swapaxes(0, 1), xs.swapaxes(0, 1)
    report = sc.newton(cell, params, batch_first[1], guess=batch_first[0], time_axis=1, **flags)[2]
    assert not report.iterations.any()


def test_a_guess_that_is_not_finite_is_none():
    """As the carries of a step that failed are, with on_fail="nan": the next step recovers."""
    cell, params = gru()
    xs = inputs(30, 2)
    guess = sc.trajectory(cell, params, xs).at[:, 0].set(jnp.nan)
    report = sc.newton(cell, params, xs, guess=guess, on_fail="nan")[2]
    assert report.converged.all()
    cold = sc.newton(cell, params, xs)[2]
    assert report.iterations.tolist() == [int(cold.iterations[0]), 0]


@pytest.mark.parametrize("steps", [0, 20])
def test_the_carries_after_every_step_are_those_of_trajectory(steps):
    cell = sc.LSTM(3)
    params, xs = cell.init(jax.random.key(0), 2), inputs(steps, 2).swapaxes(0, 1)
    flags = {"reverse": True, "lengths": np.array([0, steps]), "time_axis": 1}
    carries, ys, _ = sc.newton(cell, params, xs, trajectory=True, chunk=7, **flags)
    assert_close(carries, sc.trajectory(cell, params, xs, **flags), 1e-6)
    assert_close(ys, sc.unroll(cell, params, xs, **flags)[1], 1e-6)


def test_training_hands_the_carries_on_from_step_to_step():
    """The same sequences in each step of `fit`: as a state, their carries are the next guess."""
    cell, xs = sc.LSTM(3), inputs(30, 2)

    def loss(variables, key, warm):
        params, guess = variables
        guess = jax.tree.map(lambda a: jnp.where(warm, a, jnp.nan), guess)
        carries, ys, report = sc.newton(cell, params, xs, guess=guess, trajectory=True)
        value = jnp.mean(jnp.square(ys - jnp.roll(xs[..., :1], 1, axis=0)))
        return value, {"iterations": jnp.mean(report.iterations)}, carries

    params = cell.init(jax.random.key(0), 2)
    unknown = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), sc.trajectory(cell, params, xs))
    sgd = lambda hparams: optax.sgd(0.1)  # noqa: E731
    fit = functools.partial(train.fit, loss, segment=4, optimizer=sgd)
    start = train.init(train.Variables(params, unknown), None, jax.random.key(1), sgd)
    (end, warm), (same, cold) = (fit(start, jnp.array(kind), 8) for kind in (True, False))
    assert warm["iterations"][0] == cold["iterations"][0]
    assert np.all(warm["iterations"][1:] < cold["iterations"][1:])
    assert_close((end.params, warm["grad_norm"]), (same.params, cold["grad_norm"]), 1e-5)
    half, _ = fit(start, jnp.array(True), 4)
    resumed, _ = fit(half, jnp.array(True), 4)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, end.params)


def test_vmap_equals_a_loop_row_by_row_iterations_included():
    """Rows that need few and many iterations, and one that fails."""
    members = [rnn(gain) for gain in (0.5, 0.8, 1.0, 4.0)]
    params = jax.tree.map(lambda *a: jnp.stack(a), *(member[1] for member in members))
    run = functools.partial(sc.newton, max_iters=12, on_fail="flag")
    xs, cell = inputs(60), members[0][0]
    batched = jax.vmap(lambda p: run(cell, p, xs))(params)
    for i, (_, own) in enumerate(members):
        one = run(cell, own, xs)
        assert int(one[2].iterations) == int(batched[2].iterations[i])
        assert bool(one[2].converged) == bool(batched[2].converged[i])
        assert largest(one[1][:12], batched[1][i][:12]) < 1e-4
    assert batched[2].converged.tolist() == [True, True, True, False]
    assert len(set(batched[2].iterations.tolist())) > 2
    xs = jnp.stack([xs, 0 * xs, 3 * xs], axis=1)
    together = run(cell, members[1][1], xs)[2].iterations.tolist()
    assert together == [int(run(cell, members[1][1], xs[:, i])[2].iterations) for i in range(3)]
    assert len(set(together)) > 1


def test_a_chaotic_net_whose_corrections_overflow_is_solved_in_as_many_iterations_as_steps():
    """Along its 200 steps they grow beyond 1e38, the largest number of float32."""
    (cell, params), steps = rnn(4.0), 200
    _, ys, report = sc.newton(cell, params, inputs(steps), max_iters=steps, on_fail="flag")
    assert float(report.residual) < 1e-5
    before = jnp.concatenate([jnp.zeros((1, 8)), ys[:-1]])
    assert (
        largest(jax.vmap(lambda h, x: cell.step(params, h, x)[1])(before, inputs(steps)), ys) < 1e-6
    )


@pytest.mark.parametrize("on_fail", ["sequential", "nan", "flag"])
def test_sequences_that_fail_are_told_and_treated_as_asked(on_fail):
    """A chaotic net, and inputs that hold one of three sequences at 1."""
    cell, params = rnn(4.0)
    xs = inputs(60, 3).at[:, 1].multiply(50)
    _, ys, report = sc.newton(cell, params, xs, max_iters=12, on_fail=on_fail)
    assert report.converged.tolist() == [False, True, False]
    off = ys[1:] - jax.vmap(lambda h, x: cell.step(params, h, x)[1])(ys[:-1], xs[1:])
    off = np.max(np.abs(off), axis=(0, 2))
    assert off[1] < 1e-6
    if on_fail == "sequential":
        assert np.all(off < 1e-6)
    elif on_fail == "nan":
        assert np.isnan(ys[:, [0, 2]]).all()
    else:
        assert np.all(off[[0, 2]] > 0.1)


@pytest.mark.parametrize("steps", [30, 1100])
def test_numbers_that_are_not_finite_stop_the_iteration_at_once_and_only_there(steps):
    """Of few numbers and of many, where XLA's maximum skips NaN on a CPU."""
    cell, params = gru()
    xs = inputs(steps, 3).at[5, 1].set(jnp.nan)
    _, ys, report = sc.newton(cell, params, xs)
    assert report.converged.tolist() == [True, False, True]
    assert report.iterations[1] == 0
    for value in (report.residual, report.error_bound, report.error_estimate):
        assert np.isfinite(value).tolist() == [True, False, True]
    assert np.isnan(ys[5:, 1]).all()
    assert_close(ys, sc.unroll(cell, params, xs, engine=sc.Scan())[1], 1e-6)


def test_the_tolerance_is_kept():
    """It decides how many iterations are run; a looser one is not ignored, nor is a tighter one."""
    cell, params = rnn(1.2, size=16)
    xs = inputs(200)
    reports = [
        sc.newton(cell, params, xs, tol=tol, on_fail="flag")[2] for tol in (1.0, 1e-3, 1e-30)
    ]
    assert int(reports[0].iterations) < int(reports[1].iterations) < int(reports[2].iterations)
    assert [bool(report.converged) for report in reports] == [True, True, False]
    assert float(reports[1].residual) <= 1e-3


def test_success_is_read_from_the_residual_and_not_from_the_number_of_iterations():
    """The only iteration allowed solves a line; a chaotic net fails after none."""
    report = sc.newton(*line(0.9), inputs(8), max_iters=1, on_fail="flag")[2]
    assert int(report.iterations) == 1
    assert report.converged
    report = sc.newton(*rnn(4.0), inputs(8), tol=1e3, on_fail="flag")[2]
    assert int(report.iterations) == 0
    assert not report.converged


def float32_rule(made, steps, **options):
    """Return the error over the larger of the scan's own and a rounding error, where converged."""
    cell = made[0][0]
    params = jax.tree.map(lambda *a: jnp.stack(a), *(params for _, params in made))
    xs = jax.random.normal(jax.random.key(steps), (len(made), steps, 2))

    @jax.jit
    def run(params, xs):
        return jax.vmap(lambda p, x: sc.newton(cell, p, x, on_fail="flag", **options))(params, xs)

    @jax.jit
    def plain(params, xs):
        return jax.vmap(lambda p, x: sc.unroll(cell, p, x, engine=sc.Scan()))(params, xs)[1]

    _, ys, report = run(params, xs)
    scanned = plain(params, xs)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, xs))
        exact = np.asarray(plain(*wide))

    def error(ys):
        return np.max(np.abs(np.asarray(ys, np.float64) - exact), axis=(1, 2))

    least = EPS * np.max(np.abs(exact), axis=(1, 2))
    ratio = error(ys) / np.maximum(error(scanned), least)
    return ratio[np.asarray(report.converged)], report


@pytest.mark.parametrize("jacobian", ["full", "diagonal"])
def test_in_float32_a_solution_is_as_exact_as_a_scan(jacobian):
    ratio, report = float32_rule([gru(seed=seed) for seed in range(8)], 60, jacobian=jacobian)
    assert report.converged.all()
    assert np.all(ratio <= 4)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [10, 100, 1000, 3000])
@pytest.mark.parametrize("kind", ["gru", "rnn", "leaky", "fast"])
def test_in_float32_hundreds_of_solutions_are_as_exact_as_a_scan(kind, steps):
    """`fast` nets are chaotic, mostly; they count as converged where they are not."""
    make = {
        "gru": gru,
        "rnn": functools.partial(rnn, 0.9),
        "leaky": functools.partial(leaky, 0.001),
        "fast": functools.partial(rnn, 2.0),
    }[kind]
    ratio, report = float32_rule([make(seed=seed) for seed in range(100)], steps)
    if kind != "rnn":
        assert report.converged.all() == (kind != "fast")
    assert len(ratio)
    assert np.all(ratio <= 4)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [100, 1000, 10_000])
def test_iterations_do_not_grow_with_the_number_of_steps(steps):
    for (cell, params), most in ((gru(16), 5), (rnn(0.9, 16), 6)):
        report = sc.newton(cell, params, inputs(steps, 4), on_fail="flag")[2]
        assert report.converged.all()
        assert np.all(report.iterations <= most)


@pytest.mark.slow
def test_in_the_setting_of_the_demo_of_deer_it_is_as_exact_as_a_scan():
    """A GRU with 2 inputs, a batch of 16, 10,000 steps in float32; its README says 2.4e-7.

    Here Newton and a scan differ by up to 3.6e-7, and each of them from float64 by about 3e-7.
    """
    cell, params = gru(16)
    xs = inputs(10_000, 16)
    _, ys, report = sc.newton(cell, params, xs, on_fail="flag")
    scanned = sc.unroll(cell, params, xs, engine=sc.Scan())[1]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, "float64"), (params, xs))
        exact = np.asarray(sc.unroll(cell, *wide, engine=sc.Scan())[1])
    assert report.converged.all()
    assert largest(ys, scanned) <= 4 * EPS
    assert largest(ys, exact) <= 1.5 * largest(scanned, exact)


# Jacobians


FACTORED = ["rnn-tanh-bias", "gru-after-double", "lstm-bias", "slstm-bias", "cornn"]
FACTORED += ["antisymmetric-gated", "ctrnn-rate-bias"]
OTHERS = ["gru-before-double", "indrnn-tanh-nobias", "lem-bias", "ctrnn-current-nobias"]
OTHERS += ["convlstm-bias", "lstm-peep", "lstm-proj", "layernorm-gru", "function"]


def recurrence_of(case, jacobian, steps=4):
    """The steps of a cell, one of three sequences padded and one reset, and carries before them."""
    problem = draw(case, (3,), steps=steps)
    cell = case.cell.resolve(problem.xs)
    valid, restart = (np.ones((steps, 3), bool) for _ in range(2))
    valid[2:, 0], restart[:], restart[1, 2] = False, False, True
    drive = project(cell, problem.params, problem.xs)
    flags = Flags(valid, restart, jax.tree.map(lambda a: 0.5 * a, problem.carry))
    layout = layout_of(cell, jacobian, problem.params, problem.carry, drive, flags, 1)
    start = layout.flatten(problem.carry)
    given = Given(problem.params, flags.fresh, start, drive, valid, restart)
    dtypes = tuple(a.dtype for a in jax.tree.leaves(problem.params))
    factored = jacobians.factored(cell, layout, given)
    before = 0.3 * np.random.default_rng(1).normal(size=(steps, *start.shape))
    return Recurrence(cell, layout, dtypes, factored), given, before


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FACTORED)
def test_jacobians_of_a_split_cell_are_those_of_its_steps(name):
    """By the slopes of its gate, without pushing unit vectors through its steps."""
    for jacobian in ("full", "diagonal"):
        recurrence, given, before = recurrence_of(CASES[name], jacobian)
        assert recurrence.factored
        plain = dataclasses.replace(recurrence, factored=False)
        functions = [jacobians.blocks] + [jacobians.row_sums] * (jacobian == "diagonal")
        for function in functions:
            found, expected = (
                jax.jit(functools.partial(function, one))(given, before)
                for one in (recurrence, plain)
            )
            assert_close(found, expected, 1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OTHERS)
def test_other_cells_are_not_taken_for_a_product_and_a_gate(name):
    assert not recurrence_of(CASES[name], "full")[0].factored


@pytest.mark.usefixtures("x64")
def test_the_diagonal_of_a_split_cell_takes_one_product_over_the_steps():
    recurrence, given, before = recurrence_of(CASES["gru-after-double"], "diagonal", steps=23)
    text = str(jax.make_jaxpr(functools.partial(jacobians.blocks, recurrence))(given, before))
    products = re.findall(r":f\d\d\[([\d,]+)\] = dot_general", text)
    assert sum(shape.startswith("23,") for shape in products) == 1
    assert "scan" not in text


# Derivatives


WAYS = {
    "full": sc.Newton(scan="associative"),
    "diagonal": sc.Newton("diagonal", scan="associative"),
    "failing": sc.Newton(max_iters=1, scan="associative"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("x64")
def test_every_derivative_is_that_of_the_plain_scan(way):
    """Forward, reverse, second, of a batch, with checkpoints; also where Newton has failed."""
    case, flags = CASES["gru-after-double"], {"lengths": np.array([5, 3])}
    problem = draw(case, (2,), steps=5)
    args = problem.params, problem.xs
    along = jax.tree.map(np.sin, args)

    @functools.partial(jax.jit, static_argnames="engine")
    def derivatives(engine):
        def of(params, xs):
            out = sc.unroll(case.cell, params, xs, problem.carry, engine=engine, **flags)
            return weigh(problem, *jax.tree.map(jnp.sin, out))

        gradient = jax.grad(of, (0, 1))
        twice = jax.jvp(gradient, args, along)
        reverse = jax.grad(lambda *args: sum(map(jnp.sum, jax.tree.leaves(gradient(*args)))))
        many = jax.vmap(gradient, (None, 0))(args[0], jnp.stack([args[1], 2 * args[1]]))
        kept = jax.grad(jax.checkpoint(of), (0, 1))
        return jax.jvp(of, args, along), twice, reverse(*args), many, kept(*args)

    assert_close(derivatives(WAYS[way]), derivatives(sc.Scan()), 1e-11)


def test_the_backward_pass_does_not_use_the_diagonal_jacobian():
    """With it, gradients are far off: as published code has them."""
    cell, params = rnn(0.9)
    xs = inputs(40)
    own = jax.grad(loss(cell, sc.Newton("diagonal", scan="associative")))(params, xs)
    exact = jax.grad(loss(cell, sc.Scan()))(params, xs)
    assert_close(own, exact, 1e-4)


def test_gradients_are_those_at_the_solution_and_not_at_the_iterate_before():
    """With a loose tolerance, the last correction is seen; published code has them before it."""
    cell, params = rnn(1.2)
    xs = inputs(40)
    run = functools.partial(sc.newton, tol=0.1, scan="associative", on_fail="flag")
    plain = functools.partial(sc.unroll, engine=sc.Scan())
    own, exact = (
        jax.grad(lambda p, run=run: jnp.sum(jnp.sin(run(cell, p, xs)[1])))(params)
        for run in (run, plain)
    )
    off = largest(run(cell, params, xs)[1], plain(cell, params, xs)[1])
    assert off > 1e-5
    assert max(map(largest, own, exact)) < 10 * off


def test_the_diagonal_form_holds_no_jacobians():
    """No buffer of T x H x H, neither forward nor backward; the full form has one."""
    cell, params = gru(6)
    xs = jax.ShapeDtypeStruct((23, 2), "float32")
    for jacobian, held in (("diagonal", False), ("full", True)):
        gradient = jax.jit(jax.grad(loss(cell, sc.Newton(jacobian))))
        text = gradient.lower(params, xs).compile().as_text()
        shapes = {"23,6,6", "23,1,6,6", "6,23,1,6", "6,23,6", "6,23,6,1"}
        assert any(f"f32[{shape}]" in text for shape in shapes) == held


# The certificate


def line(weight):
    """A linear recurrence of one number."""
    params = sc.RNNParams(jnp.ones((2, 1)), jnp.full((1, 1), weight), None)
    return sc.RNN(1, "identity", bias="none"), params


@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("weight", [0.9, -0.9])
def test_the_bound_of_a_line_is_the_sum_of_its_powers(weight, chunk):
    """Errors of steps add up to 1 / (1 - 0.9), in all chunks together, whatever their signs."""
    cell, params = line(weight)
    report = sc.newton(cell, params, jnp.zeros((100, 2)), chunk=chunk)[2]
    np.testing.assert_allclose(report.error_bound, 4 * EPS * 10, 1e-3)
    assert 4 * EPS * 2 < report.error_estimate < report.error_bound
    whole = sc.newton(cell, params, jnp.zeros((100, 2)))[2]
    np.testing.assert_allclose(report.error_estimate, whole.error_estimate, 1e-4)


def test_carries_at_padding_are_held_exactly():
    cell, params = gru()
    lengths = np.array([3, 31, 50])
    far = jnp.full((50, 3, 4), 1e3)  # from which a correction is rounded
    options = {"max_iters": 2, "on_fail": "flag", "scan": "associative", "guess": far}
    carry, ys, _ = sc.newton(cell, params, inputs(50, 3), lengths=lengths, **options)
    np.testing.assert_array_equal(carry, ys[lengths - 1, np.arange(3)])


def test_the_bound_holds_and_the_estimate_is_near():
    check_certificate(rnn, (0.9, 1.3), steps=(10, 60), rows=8)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [10, 100, 1000, 3000])
def test_the_bound_holds_in_hundreds_of_cases(steps):
    misses = check_certificate(rnn, (0.5, 0.9, 1.2, 2.0), steps=(steps,), rows=64)
    misses += check_certificate(leaky, (0.01, 0.001), steps=(steps,), rows=64)
    assert misses <= 0.05 * 6 * 64


def test_errors_that_add_up_along_a_sequence_are_told():
    """A net that forgets slowly adds a rounding error in each step, which no residual shows."""
    cell, params = leaky(0.001)
    xs = inputs(1000) + 5
    _, ys, report = sc.newton(cell, params, xs)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, "float64"), (params, xs))
        exact = sc.unroll(cell, *wide, engine=sc.Scan())[1]
    assert largest(ys, exact) > 10 * report.residual
    assert largest(ys, exact) < report.error_estimate < report.error_bound


def leaky(rate, seed=0):
    """A net that forgets slowly: the error of a step is felt for 1 / rate steps."""
    return sc.CTRNN(8, tau=1.0, dt=rate), sc.CTRNNParams(*rnn(0.5, seed=seed)[1])


def check_certificate(make, gains, steps, rows):
    """Stop with a residual that counts, and compare with the exact solution; return the misses."""
    misses = 0
    with jax.enable_x64(True):
        for gain in gains:
            made = [make(gain, seed=seed) for seed in range(rows)]
            cell = made[0][0]
            params = jax.tree.map(lambda *a: jnp.stack(a).astype("float64"), *(p for _, p in made))
            for length in steps:
                xs = jax.random.normal(jax.random.key(length), (rows, length, 2), "float64")
                error, report = certified(cell, params, xs)
                small = report.residual < 1e-5
                assert small.all()
                assert np.all(error <= 2 * report.error_bound)
                misses += int(np.sum(error > report.error_estimate))
    return misses


@functools.partial(jax.jit, static_argnums=0)
def certified(cell, params, xs):
    def one(params, xs):
        exact = sc.trajectory(cell, params, xs)
        noise = 1e-6 * jax.random.uniform(jax.random.key(3), exact.shape, minval=-1)
        _, hs, report = sc.newton(cell, params, xs, guess=exact + noise, tol=1.0, on_fail="flag")
        return jnp.max(jnp.abs(hs - exact)), report

    return jax.vmap(one)(params, xs)


# How it is called


def test_it_runs_only_where_it_is_named():
    assert not any(isinstance(engine, sc.Newton) for engine in ENGINES)
    xs = jnp.zeros((5, 3, 2))
    assert sc.select_engine(sc.GRU(2), xs, engine=sc.Newton()) == sc.Newton()
    assert "CPU" in sc.Newton().why_slow(sc.GRU(2), xs, Flags())


@pytest.mark.parametrize("jacobian", ["full", "diagonal"])
def test_its_gradient_is_traced_within_a_checked_shard_map(jacobian):
    """Where parameters vary over devices and inputs do not, as in `fit(mesh=)`."""
    cell, params = gru()
    xs = inputs(5, 2)

    def loss(params, guess):
        params = jax.lax.pcast(params, "data", to="varying")
        run = functools.partial(sc.newton, jacobian=jacobian, scan="associative", trajectory=True)
        carries, _, _ = run(cell, params, xs, guess=guess)
        return jax.lax.pmean(jnp.sum(carries), "data")

    mesh, own = jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec()
    graded = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=own, out_specs=own)
    shapes = jax.make_jaxpr(graded)(params, jnp.zeros((5, 2, 4))).out_avals
    assert [a.shape for a in shapes] == [a.shape for a in params]


def count(params, carry, x):
    return carry + 1, x


COUNTER = sc.FunctionCell(count, lambda x: jnp.zeros(x.shape[:-1], int))
WRONG = [
    ({"jacobian": "none"}, "jacobian: expected one of 'full', 'diagonal'"),
    ({"tol": 0.0}, "tol: expected a number above 0"),
    ({"max_iters": 0}, "max_iters: expected an int >= 1"),
    ({"damping": 1.0}, "damping: expected a number from 0 to below 1"),
    ({"scan_dtype": "int8"}, "scan_dtype: expected one of"),
    ({"on_fail": "raise"}, "on_fail: expected one of 'sequential', 'nan', 'flag'"),
    ({"scan": "tree"}, "scan: expected one of 'sequential', 'associative', 'blocked'"),
    ({"guess": jnp.zeros((4, 2))}, r"guess: expected float32\[5, 2\]"),
    ({"trajectory": 1}, "trajectory: expected"),
    ({"cell": COUNTER}, "cell: expected a carry of floating arrays"),
    ({"cell": sc.Stack((sc.GRU(2),))}, "cell: expected a seqcells.Cell"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_arguments_are_named(given, message):
    cell = given.get("cell", sc.GRU(2))
    options = {name: value for name, value in given.items() if name != "cell"}
    params = None if cell is COUNTER else cell.init(jax.random.key(0), 2)
    with pytest.raises((TypeError, ValueError), match=message):
        sc.newton(cell, params, jnp.zeros((5, 2)), **options)
