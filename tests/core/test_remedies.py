"""Laws of what is done about gradients that vanish or explode."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells.diagnostics import carry_gradient, lyapunov_exponents, step_jacobians
from seqcells.remedies import flossing, omega, project_spectral_norm
from tests.support import laws
from tests.support.laws import (
    CASES,
    B,
    D,
    H,
    T,
    assert_close,
    draw,
    last_sum,
    one_number,
    orthogonal,
)

pytestmark = pytest.mark.usefixtures("strict", "x64")

omega_of = jax.jit(omega, static_argnums=3, static_argnames="form")
flossing_of = jax.jit(flossing, static_argnums=3)
gradient_of = jax.jit(carry_gradient, static_argnums=3)
SPLIT = ["rnn-tanh-bias", "gru-after-double", "lstm-bias", "indrnn-tanh-nobias", "layernorm-gru"]
SPLIT += ["convgru-after-double"]
QUICK = ("lstm-bias", "convgru-after-double")
SLOW = pytest.mark.slow
FORMS = ["paper", "code"]
by_optax = jax.numpy_dtype_promotion("standard")  # Adam promotes silently


def everywhere(ys):
    return jnp.sum(jnp.sin(ys) * jnp.arange(1.0, H + 1))


def total(ratio, form):
    """Omega of ratios [T, B] that all count, as the paper and as the authors' code have it."""
    if form == "paper":
        return np.square(ratio - 1).sum(axis=0).mean()
    return np.square(np.square(ratio) - 1).mean()


@pytest.mark.parametrize("g", [0.5, 1.0, 1.2])
@pytest.mark.parametrize("form", FORMS)
def test_omega_of_a_linear_cell_with_an_orthogonal_matrix(g, form):
    expected = {"paper": 20 * (g - 1) ** 2, "code": (g * g - 1) ** 2}[form]
    found = omega_of(*orthogonal(g), np.ones((20, B, D)), last_sum, form=form)
    assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-20)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SPLIT]
)
def test_omega_is_made_of_gradients_and_jacobians(name, form):
    case = CASES[name]
    problem = draw(case)
    args = (case.cell, problem.params, problem.xs)
    gradient = gradient_of(*args, everywhere, problem.carry)
    d = np.concatenate([leaf.reshape(T, B, -1) for leaf in jax.tree.leaves(gradient)], axis=-1)
    back = np.einsum("tbi,tbij->tbj", d, jax.jit(step_jacobians)(*args, problem.carry))
    expected = total(np.linalg.norm(back, axis=-1) / np.linalg.norm(d, axis=-1), form)
    found = omega_of(*args, everywhere, problem.carry, form=form)
    assert float(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_omega_is_the_immediate_one(form):
    """With d_t and h_t held, as in the authors' code: d_t J_t = (d_t * (1 - h_t^2)) W^T."""
    case = CASES["rnn-tanh-bias"]
    problem = draw(case)
    args = (case.cell, problem.params, problem.xs)
    d = np.asarray(gradient_of(*args, everywhere, problem.carry))
    slope = 1 - np.square(sc.trajectory(*args, problem.carry))

    def held(w):
        back = (d * slope) @ w.T
        return total(np.linalg.norm(back, axis=-1) / np.linalg.norm(d, axis=-1), form)

    def found(params):
        return omega(case.cell, params, problem.xs, everywhere, problem.carry, form=form)

    gradient = jax.jit(jax.grad(found))(problem.params)
    expected = np.zeros((H, H))
    for i, j in np.ndindex(H, H):
        nudge = np.zeros((H, H))
        nudge[i, j] = 1e-6
        up, down = held(problem.params.w_hh + nudge), held(problem.params.w_hh - nudge)
        expected[i, j] = (up - down) / 2e-6
    assert_close(gradient.w_hh, expected, 1e-8)
    assert np.linalg.norm(expected) > 0.1


@pytest.mark.parametrize("name", [SPLIT[0], *(pytest.param(n, marks=SLOW) for n in SPLIT[1:3])])
def test_only_the_recurrent_weights_have_a_gradient_of_omega(name):
    case = CASES[name]
    problem = draw(case)

    def found(params, xs, carry, weigh):
        return omega(case.cell, params, xs, lambda ys: jnp.vdot(ys, weigh), carry)

    arguments = (problem.params, problem.xs, problem.carry, problem.weigh_ys)
    params, *others = jax.jit(jax.grad(found, argnums=(0, 1, 2, 3)))(*arguments)
    assert np.any(params.w_hh)
    for leaf in jax.tree.leaves((params._replace(w_hh=None), others)):
        assert not np.any(leaf)


@pytest.mark.parametrize("form", FORMS)
def test_steps_and_sequences_without_a_gradient_do_not_count(form):
    """Of B sequences the loss looks at one, and at no step after its fifth."""
    cell, params = orthogonal(0.5)

    def early(ys):
        return jnp.sum(ys[4, 1])

    found = omega_of(cell, params, np.ones((20, B, D)), early, form=form)
    expected = {"paper": 5 * 0.25 / B, "code": 0.75**2}[form]
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_the_authors_leave_out_gradients_below_a_bound():
    cell, params = orthogonal(0.5)
    params = params._replace(w_hh=np.diag([0.5, 0.1, 0.1]))

    def loss(ys):  # the second sequence has a gradient of 1e-11 and less, the ratio of which is 0.1
        return ys[-1, 0, 0] + 1e-11 * ys[-1, 1, 1]

    args = (cell, params, np.ones((20, 2, D)), loss)
    assert float(omega_of(*args)) == pytest.approx(20 * (0.25 + 0.81) / 2, rel=1e-10)
    assert float(omega_of(*args, form="code")) == pytest.approx(0.75**2, rel=1e-10)


def test_omega_keeps_a_gradient_that_is_all_but_lost():
    """In float32 the square of 1e-30 is zero."""
    cell, params = jax.tree.map(jnp.float32, orthogonal(0.5))
    found = omega_of(cell, params, jnp.ones((100, 1, D), "float32"), last_sum)
    assert found.dtype == "float32"
    assert float(found) == pytest.approx(25, rel=1e-5)


def test_omega_as_a_term_makes_gradients_go_further_back():
    case = CASES["rnn-tanh-bias"]
    problem = draw(case, steps=20)
    found = lambda params: omega(case.cell, params, problem.xs, last_sum)  # noqa: E731

    @jax.jit
    def descend(params):
        def body(params, _):
            value, gradient = jax.value_and_grad(found)(params)
            return jax.tree.map(lambda a, g: a - 0.05 * g, params, gradient), value

        return jax.lax.scan(body, params, length=50)[1]

    values = descend(jax.tree.map(jnp.asarray, problem.params))
    assert float(values[-1]) < 0.5 * float(values[0])


@pytest.mark.slow
def test_omega_may_be_mapped_over_nets():
    problems, many = laws.draw_many(CASES["gru-after-double"])
    cell, xs = sc.GRU(H), jnp.asarray(problems[0].xs)
    found = jax.jit(jax.vmap(lambda params: omega(cell, params, xs, one_number)))(many)
    alone = omega(cell, problems[2].params, problems[0].xs, one_number)  # and eagerly
    assert float(found[2]) == pytest.approx(float(alone), rel=1e-10)


@pytest.mark.parametrize("k", [1, 2, None])
def test_flossing_of_a_linear_cell_with_an_orthogonal_matrix(k):
    found = flossing_of(*orthogonal(0.5), np.ones((20, B, D)), k)
    assert float(found) == pytest.approx((k or H) * math.log(0.5) ** 2, rel=1e-10)


def test_flossing_is_differentiated_by_the_parameters():
    case = CASES["gru-after-double"]
    problem = draw(case)

    def loss(params):
        return flossing(case.cell, params, problem.xs, 2, warmup=2, carry=problem.carry)

    loss_of = jax.jit(loss)
    exponents = jax.jit(lyapunov_exponents, static_argnums=3, static_argnames="warmup")(
        case.cell, problem.params, problem.xs, 2, warmup=2, carry=problem.carry
    )
    expected = np.square(exponents).sum(axis=1).mean()
    assert float(loss_of(problem.params)) == pytest.approx(float(expected), rel=1e-12)
    gradient = jax.jit(jax.grad(loss))(problem.params)
    for seed in range(1, 4):
        way = draw(case, seed=seed).params
        moved = lambda s, way=way: jax.tree.map(lambda a, b: a + s * b, problem.params, way)  # noqa: E731
        up, down = (loss_of(moved(step)) for step in (1e-6, -1e-6))
        along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, way)))
        assert float(along) == pytest.approx(float(up - down) / 2e-6, rel=1e-6)


@pytest.mark.slow
@by_optax
def test_flossing_drives_exponents_to_zero():
    cell = sc.RNN(8, w_hh_init=sc.initializers.Normal(0.1), param_dtype="float64")
    params = cell.init(jax.random.key(0), D)
    xs = jax.random.normal(jax.random.key(1), (40, 1, D), "float64")
    optimizer = optax.adam(0.02)

    def loss(params):
        return flossing(cell, params, xs, 3, warmup=10)

    @jax.jit
    def train(params):
        def body(state, _):
            params, memory = state
            updates, memory = optimizer.update(jax.grad(loss)(params), memory)
            return (optax.apply_updates(params, updates), memory), None

        return jax.lax.scan(body, (params, optimizer.init(params)), length=150)[0][0]

    before, after = (
        np.abs(lyapunov_exponents(cell, p, xs, 3, warmup=10)).max() for p in (params, train(params))
    )
    print(f"largest |exponent| {before:.3f} before, {after:.4f} after")
    assert before > 0.5
    assert after < 0.02


def gates(matrix):
    return np.split(np.asarray(matrix), matrix.shape[1] // matrix.shape[0], axis=1)


def largest(matrix):
    return np.linalg.norm(matrix, 2)


def applied(params, updates, **options):
    """Parameters after one update behind which the projection stands."""
    projection = project_spectral_norm(**options)
    state = projection.init(params)
    updates, _ = jax.jit(projection.update)(updates, state, params)
    return optax.apply_updates(params, updates), updates


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_after_an_update_no_gate_exceeds_the_bound(dtype):
    cell = sc.GRU(16, w_hh_init=sc.initializers.Lecun(), param_dtype=dtype)
    params, updates = (cell.init(jax.random.key(seed), D) for seed in range(2))
    after, _ = applied(params, updates)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(dtype)}
    least = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 1e-2}[dtype]
    for gate in gates(after.w_hh.astype("float64")):
        assert abs(largest(gate) - 1) < least
    laws.assert_same_bits(after.w_ih, optax.apply_updates(params, updates).w_ih)  # not recurrent


def test_what_is_within_the_bound_is_left_bit_for_bit():
    cell = sc.GRU(8)
    params = cell.init(jax.random.key(0), D)
    scale = jnp.repeat(jnp.array([-0.5, 0.2, -0.3], "float32"), 8)  # the second gate grows
    updates = jax.tree.map(jnp.zeros_like, params)._replace(w_hh=params.w_hh * scale)
    after, corrected = applied(params, updates)
    laws.assert_same_bits(corrected.w_hh[:, :8], updates.w_hh[:, :8])
    laws.assert_same_bits(corrected.w_hh[:, 16:], updates.w_hh[:, 16:])
    assert largest(gates(after.w_hh)[1]) == pytest.approx(1, abs=1e-6)


def test_each_gate_becomes_the_nearest_matrix_within_the_bound():
    rng = np.random.default_rng(0)
    params, updates = (  # f|n
        sc.MGUParams(np.ones((D, 12)), rng.normal(size=(6, 12)), None, None) for _ in range(2)
    )
    after, _ = applied(params, updates, max_norm=1.5)
    pairs = zip(gates(after.w_hh), gates(params.w_hh + updates.w_hh), strict=True)
    for gate, wanted in pairs:
        left, values, right = np.linalg.svd(wanted)
        assert values[1] > 1.5 > values[-1]  # some are clipped and some are kept
        assert_close(gate, left * np.minimum(values, 1.5) @ right, 1e-12)


def test_a_diagonal_recurrence_is_clipped():
    params = sc.IndRNNParams(np.ones((D, 3)), np.array([2.0, -1.5, 0.5]), None)
    zero = jax.tree.map(np.zeros_like, params)
    after, _ = applied(params, zero, max_norm=1.2)
    assert_close(after.w_hh, np.array([1.2, -1.2, 0.5]), 1e-15)


def test_parameters_are_found_by_the_end_of_their_path():
    own = (jnp.eye(4), 3 * jnp.eye(4))
    tree = {"rnn": sc.GRU(4).init(jax.random.key(0), 4), "own": own, "raw_hh": own[1]}
    zero = jax.tree.map(jnp.zeros_like, tree)
    doubled = jax.tree.map(lambda a: a, tree)
    doubled["rnn"] = tree["rnn"]._replace(w_hh=2 * tree["rnn"].w_hh)
    after, _ = applied(doubled, zero)
    assert_close(after, tree, 1e-6)
    after, _ = applied(doubled, zero, where="own.1")
    assert_close(after, doubled | {"own": (jnp.eye(4), jnp.eye(4))}, 1e-6)


def test_it_may_be_mapped_over_nets_and_bounds():
    cell, bounds = sc.GRU(5), jnp.array([0.5, 0.9, 3.0], "float32")
    many = jax.vmap(lambda key: cell.init(key, D))(jax.random.split(jax.random.key(0), 3))

    @jax.jit
    @jax.vmap
    def project(bound, params):
        projection = project_spectral_norm(bound)
        zero = jax.tree.map(jnp.zeros_like, params)
        updates, _ = projection.update(zero, projection.init(params), params)
        return optax.apply_updates(params, updates)

    after = project(bounds, many)
    for member, bound in enumerate(bounds):
        for gate in gates(after.w_hh[member]):
            assert largest(gate) == pytest.approx(min(float(bound), 1), abs=1e-6)


@by_optax
def test_it_stands_last_in_a_chain():
    cell = sc.GRU(4)
    params = cell.init(jax.random.key(0), D)
    xs = jax.random.normal(jax.random.key(1), (T, B, D), "float32")
    optimizer = optax.chain(optax.adam(0.3), project_spectral_norm(0.9))

    def loss(params):
        return -jnp.mean(jnp.square(sc.unroll(cell, params, xs)[1]))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(5):
        params, state = step(params, state)
        assert max(map(largest, gates(params.w_hh))) < 0.9 + 1e-6


@pytest.mark.parametrize("shape", [(5, 0, 3), (0, 2, 3)], ids=["no sequence", "no step"])
@pytest.mark.parametrize("term", [lambda *args: omega(*args, jnp.sum), flossing])
def test_an_empty_batch_is_refused(term, shape):
    """A mean of nothing would be NaN."""
    cell = sc.GRU(4)
    with pytest.raises(ValueError, match=r"^xs: expected one sequence of one step or more, got"):
        term(cell, cell.init(jax.random.key(0), 3), jnp.zeros(shape))
