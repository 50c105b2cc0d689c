"""Laws of what is not finite: it shows in every measure that depends on it, and in no other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import diagnostics as d
from seqcells import probes, remedies

pytestmark = pytest.mark.usefixtures("strict")

T, B, D, H = 6, 3, 2, 2
BAD = 1  # the sequence of a batch that is spoiled


def clipped_step(params, h, x):  # clip has a slope of 0 at NaN, as ReLU has
    h = jnp.clip(x @ params["w_ih"] + h @ params["w_hh"], -2, 2)
    return h, h


def clipped_init(key, input_size):
    one, two = jax.random.split(key)
    return {"w_ih": jax.random.normal(one, (input_size, H)), "w_hh": jax.random.normal(two, (H, H))}


CLIPPED = sc.FunctionCell(
    clipped_step, lambda x: jnp.zeros_like(x[..., :1], shape=(*x.shape[:-1], H)), clipped_init
)
CELLS = {
    "gru": sc.GRU(H),
    "relu": sc.RNN(H, "relu", w_hh_init=sc.initializers.Identity()),
    "clipped": CLIPPED,
}
NEEDS = {  # measures that not every cell has
    "gate_values": "gates", "gate_shares": "gates", "timescales": "gates",
    "carry_gradient": "read", "gradient_by_lag": "read", "rate_and_horizon": "read",
    "layer_gradients_by_lag": "read", "omega": "mix", "pascanu_bound": "matrix",
}  # fmt: skip
HAS = {"gru": {"gates", "read", "mix"}, "relu": {"read", "mix", "matrix"}, "clipped": set()}


def last(ys):
    return jnp.sum(ys[-1])


def alone(measure, xs):
    """Measure each sequence by itself, [B, ...]."""
    return jax.vmap(measure, 1)(xs)


def gates(cell, params, xs):
    return d.gate_values(cell, params, xs)["z"]


MEASURES = {  # (cell, params, xs) -> what is measured, and where its leaves have the batch
    "carry_gradient": (lambda *a: jax.tree.map(lambda g: g[:-1], d.carry_gradient(*a, last)), 1),
    "gradient_by_lag": (lambda *a: d.gradient_by_lag(*a, last)[1:], 1),
    "rate_and_horizon": (lambda *a: d.rate_and_horizon(d.gradient_by_lag(*a, last)), 0),
    "layer_gradients_by_lag": (lambda *a: d.layer_gradients_by_lag(*a, last)[0][1:], 1),
    "step_jacobians": (d.step_jacobians, 1),
    "jacobian_by_lag": (lambda *a: jax.tree.map(lambda leaf: leaf[1:], d.jacobian_by_lag(*a)), 1),
    "lyapunov_exponents": (d.lyapunov_exponents, 0),
    "kaplan_yorke_dimension": (lambda *a: d.kaplan_yorke_dimension(d.lyapunov_exponents(*a)), 0),
    "participation_ratio": (
        lambda *a: alone(lambda carry: d.participation_ratio(carry, axes=1), sc.trajectory(*a)),
        0,
    ),
    "gate_values": (d.gate_values, 1),
    "gate_shares": (lambda *a: alone(d.gate_shares, gates(*a)), 0),
    "timescales": (lambda *a: d.timescales(gates(*a)), 1),
    "saturation": (lambda *a: alone(d.saturation, sc.trajectory(*a)), 0),
    "omega": (lambda c, p, xs: alone(lambda x: remedies.omega(c, p, x, last), xs), 0),
    "flossing": (lambda c, p, xs: alone(lambda x: remedies.flossing(c, p, x, 1), xs), 0),
}
OTHERS = {  # which do not read sequences, or are checked below
    "pascanu_bound", "mean_field", "critical_weight_std", "curse_of_memory", "gradient_snr",
    "recurrences", "in_float64", "project_spectral_norm", "fixed_points", "draw_starts",
    "memory_capacity", "linear_memory_capacity", "state_space_divergence", "power_spectrum_error",
    "newton_report",
}  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def measured(name, params, xs):
    """All measures that a cell has, by name: one program."""
    cell = CELLS[name]
    return {
        m: measure(cell, params, xs)
        for m, (measure, _) in MEASURES.items()
        if NEEDS.get(m) is None or NEEDS[m] in HAS[name]
    }


def problem(name):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: CELLS[name].init(jax.random.key(0), D))
    params = jax.tree.map(lambda a: np.float32(0.5 * rng.normal(size=a.shape)), shapes)
    return params, np.float32(1 + rng.random(size=(T, B, D)))


def spoil(tree, value):
    return jax.tree.map(lambda a: np.full_like(a, value), tree)


over_cells = pytest.mark.parametrize("name", CELLS)


def test_every_measure_is_here():
    functions = {n for n in (*vars(d), *remedies.__all__) if n[0] != "_" and n[0].islower()}
    assert functions - {"plot"} == MEASURES.keys() | OTHERS


@over_cells
def test_a_net_of_nan_has_no_finite_measure(name):
    """A net that has diverged would else read as one whose gradients vanish."""
    params, xs = problem(name)
    for measure, found in measured(name, spoil(params, np.nan), xs).items():
        for leaf in jax.tree.leaves(found):
            assert np.all(np.isnan(leaf)), measure


@over_cells
def test_a_net_of_numbers_has_no_nan(name):
    for measure, found in measured(name, *problem(name)).items():
        assert not any(np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(found)), measure


@over_cells
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sequence_that_is_not_finite_leaves_the_others_as_they_were(name, value):
    params, xs = problem(name)
    spoiled = xs.copy()
    spoiled[:, BAD] = value
    clean, found = measured(name, params, xs), measured(name, params, spoiled)
    for measure in found:
        axis = MEASURES[measure][1]
        pairs = zip(jax.tree.leaves(found[measure]), jax.tree.leaves(clean[measure]), strict=True)
        for leaf, expected in pairs:
            leaf, expected = (np.moveaxis(a, axis, 0) for a in (leaf, expected))
            assert not np.isnan(value) or np.all(np.isnan(leaf[BAD])), measure
            np.testing.assert_array_equal(np.delete(leaf, BAD, 0), np.delete(expected, BAD, 0))


@over_cells
def test_what_comes_before_the_first_nan_stays(name):
    """J_t and the gates of a step depend on no later one; products over the step do."""
    params, xs = problem(name)
    spoiled = xs.copy()
    spoiled[3] = np.nan
    clean, found = measured(name, params, xs), measured(name, params, spoiled)
    np.testing.assert_array_equal(found["step_jacobians"][:3], clean["step_jacobians"][:3])
    assert np.all(np.isnan(found["step_jacobians"][3:]))
    whole = MEASURES.keys() - {"step_jacobians", "gate_values", "timescales"}
    for measure in whole & found.keys():
        assert all(np.all(np.isnan(leaf)) for leaf in jax.tree.leaves(found[measure])), measure


@jax.jit
def of_a_line(params, xs):
    """Gradients by lag and exponents of a linear cell."""
    cell = sc.RNN(2, "identity", bias="none")
    return d.gradient_by_lag(cell, params, xs, last), d.lyapunov_exponents(cell, params, xs)


@pytest.mark.parametrize("scale", [1e3, 1e-3], ids=["overflow", "underflow"])
def test_a_gradient_beyond_float32_reads_as_what_it_is(scale):
    """1000^13 overflows and .001^13 underflows; the logarithms of lyapunov do neither."""
    params = sc.RNNParams(np.eye(2, dtype="f"), np.float32(scale) * np.eye(2, dtype="f"), None)
    norms, found = map(np.asarray, of_a_line(params, np.zeros((30, 2), "f")))
    np.testing.assert_allclose(norms[:11], 2**0.5 * scale ** np.arange(11.0), rtol=1e-5)
    beyond = norms[14:]
    assert np.all(~np.isfinite(beyond)) if scale > 1 else not np.any(beyond)
    rate = float(d.rate_and_horizon(norms).rate)
    assert np.isnan(rate) if scale > 1 else rate == pytest.approx(scale, rel=1e-3)
    assert float(d.rate_and_horizon(norms, (0, 10)).rate) == pytest.approx(scale, rel=1e-3)
    np.testing.assert_allclose(found, np.log(scale), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_exponents_and_ratios_outlast_squares_that_float32_cannot_hold(scale):
    params = sc.RNNParams(np.eye(2, dtype="f"), np.float32(scale) * np.eye(2, dtype="f"), None)
    found = of_a_line(params, np.zeros((30, 2), "f"))[1]
    np.testing.assert_allclose(found, np.log(scale), rtol=1e-5)
    g = np.float32(np.random.default_rng(0).normal(size=(6, 4)) + 1)
    np.testing.assert_allclose(
        d.gradient_snr(np.float32(scale) * g).ratio, d.gradient_snr(g).ratio, rtol=1e-4
    )


def test_dead_units_lose_their_directions_and_leave_gradients_finite():
    """Two of three ReLU units never fire: the exponent of the third is the logarithm of its own."""
    w_hh = np.diag(np.float32([0.5, 0.7, 0.9]))
    params = sc.RNNParams(np.ones((1, 3), "f"), w_hh, np.float32([-9, 0, -9]))
    cell, xs = sc.RNN(3, "relu"), np.ones((8, 1), "f")
    exponents = jax.jit(d.lyapunov_exponents, static_argnames="warmup")
    turned = exponents(cell, params, xs, warmup=1)  # which turns Q
    np.testing.assert_allclose(np.sort(turned), [-np.inf, -np.inf, np.log(0.7)], rtol=1e-4)
    graded = jax.value_and_grad(remedies.flossing, 1)
    graded = jax.jit(graded, static_argnums=3, static_argnames="warmup")
    for k in (1, None):
        value, gradient = graded(cell, params, xs, k, warmup=1)
        least = np.log(np.finfo("f").tiny)
        expected = np.log(0.7) ** 2 + (0 if k else 2 * least**2)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
        np.testing.assert_allclose(gradient.w_hh[1, 1], 2 * np.log(0.7) / 0.7, rtol=1e-4)
    silent = params._replace(b=w_hh[0] - 9)
    assert np.all(np.isneginf(exponents(cell, silent, xs, warmup=1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_theory_of_what_is_not_finite_is_not_finite(bad):
    bad = np.float32(bad)
    for value in (d.mean_field, lambda *a: d.mean_field(*a[::-1])):
        found = jax.jit(value)(bad, np.float32(0.1))  # traced: concrete NaN is refused
        assert not np.isfinite(found.chi)
        assert not np.isfinite(found.q)
        assert np.isnan(found.depth)
    assert not np.isfinite(jax.jit(d.critical_weight_std)(bad))
    assert not any(map(np.isfinite, d.curse_of_memory(bad)))
    for field in d.gradient_snr({"w": np.full((4, 2), bad)}):
        assert not np.isfinite(field["w"])
    assert np.all(np.isnan(d.timescales(np.float32([np.nan, np.inf, -0.1, 1.1]))))


@pytest.mark.parametrize("value", [np.float32(-0.1), -1.0])
def test_theory_of_what_cannot_be_is_nan_where_it_cannot_raise(value):
    assert np.isnan(jax.jit(d.mean_field)(np.float32(2), np.float32(value)).q)
    assert np.isnan(jax.jit(d.mean_field)(np.float32(value), np.float32(0.1)).chi)
    assert np.isnan(jax.jit(d.critical_weight_std)(np.float32(value)))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_bound_of_nan_is_nan(activation):
    params = spoil(problem("relu")[0], np.nan)
    assert np.isnan(d.pascanu_bound(sc.RNN(H, activation), params))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_projection_hides_nothing_and_leaves_the_other_gates(bad):
    params = sc.GRU(3).init(jax.random.key(0), D)
    updates = jax.tree.map(lambda a: 3 * a, params)
    spoiled = updates._replace(w_hh=updates.w_hh.at[0, 0].set(bad))
    project = jax.jit(lambda u: remedies.project_spectral_norm().update(u, None, params)[0].w_hh)
    found, clean = project(spoiled), project(updates)
    assert not np.any(np.isfinite(found[:, :3]))
    np.testing.assert_array_equal(found[:, 3:], clean[:, 3:])


@pytest.mark.parametrize("norm", [np.nan, -1, np.float32(0), jnp.array([1.0, -1.0])], ids=repr)
def test_a_projection_onto_nothing_is_refused(norm):
    with pytest.raises(ValueError, match=r"^max_norm: expected a number above 0, got"):
        remedies.project_spectral_norm(norm)


@jax.jit
def eight(probe):
    return probe.sample(jax.random.key(0), 8)


@pytest.mark.parametrize("probe", [probes.DelayedRecall(5), probes.AddingTCN(5)], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_answer_that_is_nan_is_neither_right_nor_wrong(probe, dtype):
    """`argmax` takes a NaN for the largest, so class 0 would be right now and then."""
    sample = eight(probe)
    answers = probe.guess(sample).astype(dtype)
    spoiled = answers.at[0, 3, 0].set(jnp.nan)
    score = probe.score(spoiled, sample.targets)
    assert all(np.isnan(field) for field in score)
    assert {field.dtype for field in score} == {jnp.dtype("float32")}
    assert not bool(probe.solved(score))


def test_a_narrow_score_is_not_rounded():
    """In bfloat16, 0.99 and 0.9922 are one number, and the square of 300 is beyond float16."""
    probe, targets = probes.Parity(9), jnp.zeros((1, 1000), "int32")
    answers = jnp.zeros((1, 1000, 2), "bfloat16").at[:, :9, 1].set(9).at[:, 9:, 0].set(9)
    assert float(probe.score(answers, targets).accuracy) == pytest.approx(0.991, abs=1e-6)
    wrong = jnp.full((1, 4, 1), 300, "float16")
    assert float(probes.AddingTCN(5).score(wrong, jnp.zeros((1, 4), "float32")).loss) == 9e4
