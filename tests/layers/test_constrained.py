"""Laws of cells that keep their signs and zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import initializers
from tests.support.laws import B, D, T, assert_close, assert_same_bits, draw_flags

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
XS = jnp.sin(jnp.arange(T * B * D, dtype="float32")).reshape(T, B, D)
H = 10
SIGNS, PATTERN = sc.Dale(0.8), sc.SparsePattern(0.3, seed=5)
GRU = sc.Constrained(sc.GRU(H), SIGNS, PATTERN)
SIGN = np.repeat(np.float32([1, -1]), [8, 2])[:, None]
OPTIMIZERS = {
    "adam": optax.adam(0.03),
    "decayed sgd": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.3)),
    "lion": optax.lion(0.01, weight_decay=0.1),
}


def radii(w):
    """The spectral radius of each gate's block."""
    blocks = np.split(np.asarray(w, np.float64), w.shape[1] // w.shape[0], axis=1)
    return [np.abs(np.linalg.eigvals(block)).max() for block in blocks]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("cell", [sc.RNN(H), sc.GRU(H)], ids=["RNN", "GRU"])
def test_signs_and_zeros_survive_1000_steps_of_any_optimiser(name, cell):
    cell, optimizer = sc.Constrained(cell, SIGNS, PATTERN), OPTIMIZERS[name]
    start = cell.init(KEY, D)

    def loss(params):  # asks for outputs that no network of these signs has
        return jnp.sum(jnp.square(sc.unroll(cell, params, XS)[1] - jnp.cos(3 * jnp.arange(H))))

    def update(state, _):
        params, memory = state
        updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
        params = optax.apply_updates(params, updates)
        w = cell.effective(params).w_hh
        zeros = jnp.where(jnp.tile(PATTERN.mask(H), w.shape[1] // H), 0, w)
        return (params, memory), (jnp.min(w * SIGN), jnp.max(jnp.abs(zeros)), jnp.min(params.w_hh))

    train = jax.jit(lambda state: jax.lax.scan(update, state, None, 1000))
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam promotes its count
        (params, _), (least, zeros, free) = train((start, optimizer.init(start)))
    assert np.all(least >= 0)
    assert not np.any(zeros)
    assert np.min(free) < 0  # the optimiser did push against the signs
    assert np.any(params.w_hh != start.w_hh)
    assert np.isfinite(loss(params))


def test_zeros_of_the_pattern_have_no_gradient_and_hide_what_stands_there():
    params = GRU.init(KEY, D)
    mask = np.tile(PATTERN.mask(H), 3)
    assert not np.any(np.asarray(params.w_hh)[~mask])
    dirty = params._replace(w_hh=jnp.where(mask, params.w_hh, jnp.nan))
    assert_same_bits(GRU.effective(dirty).w_hh == 0, jnp.asarray(~mask))
    gradient = jax.grad(lambda p: jnp.sum(sc.unroll(GRU, p, XS)[1]))(dirty).w_hh
    np.testing.assert_array_equal(np.asarray(gradient) != 0, mask)


def test_signs_are_alike_in_the_rows_of_all_gates():
    params = GRU.init(KEY, D)
    for w in (params.w_hh, -params.w_hh):
        held = np.asarray(GRU.effective(params._replace(w_hh=w)).w_hh)
        assert np.all(held * SIGN >= 0)
        assert np.all(np.any(held.reshape(H, 3, H) != 0, axis=2))
    assert_same_bits(GRU.effective(params)._replace(w_hh=None), params._replace(w_hh=None))


def test_a_weight_of_zero_can_grow():
    """The derivative of |w| at 0 is 1."""
    cell = sc.Constrained(sc.RNN(H), SIGNS)
    params = cell.init(KEY, D)
    slope = jax.grad(lambda w: jnp.sum(cell.effective(params._replace(w_hh=w)).w_hh))
    np.testing.assert_array_equal(slope(jnp.zeros((H, H))), np.broadcast_to(SIGN, (H, H)))
    np.testing.assert_array_equal(slope(-jnp.ones((H, H))), np.broadcast_to(-SIGN, (H, H)))


RADII = {
    "dale": (sc.GRU(60), SIGNS, None),
    "both": (sc.LSTM(60), SIGNS, sc.SparsePattern(0.1)),
    "sparse": (sc.RNN(60, w_hh_init=initializers.Normal(3.0)), None, sc.SparsePattern(0.05)),
    "one other": (sc.RNN(60, w_hh_init=initializers.Glorot()), None, sc.SparsePattern(0.001)),
    "excitatory": (sc.CTRNN(60, "relu"), sc.Dale(1.0), None),
    "narrow": (sc.GRU(60, param_dtype="bfloat16"), SIGNS, None),
}


@pytest.mark.parametrize("name", RADII)
@pytest.mark.parametrize("radius", [0.5, pytest.param(1.5, marks=pytest.mark.slow)])
def test_each_gate_starts_with_the_spectral_radius_that_was_asked_for(name, radius):
    cell = sc.Constrained(*RADII[name], radius=radius)
    keys = jax.random.split(KEY, 2)
    params = jax.jit(lambda key: cell.init(key, D))(keys[1])
    assert radii(cell.effective(params).w_hh) == pytest.approx(
        [radius] * len(cell.cell.GATES), 0.02
    )
    assert params.w_hh.dtype == cell.cell.param_dtype
    many = jax.jit(jax.vmap(lambda key: cell.init(key, D)))(keys)
    assert_close(np.float32(many.w_hh[1]), np.float32(params.w_hh), 1e-2)


def test_without_a_radius_the_scale_is_that_of_the_draw():
    cell = sc.RNN(H)
    free, w = sc.Constrained(cell, None, PATTERN, radius=None).init(KEY, D), cell.init(KEY, D).w_hh
    assert_same_bits(free.w_hh, jnp.where(PATTERN.mask(H), w, 0))


def test_a_matrix_without_cycles_stays_as_drawn():
    cell = sc.RNN(H, w_hh_init=initializers.zeros)
    assert not np.any(sc.Constrained(cell, SIGNS).init(KEY, D).w_hh)


def test_inhibition_balances_excitation():
    cell = sc.Constrained(sc.RNN(200), sc.Dale(0.8))
    params = cell.init(KEY, D)
    sums = np.asarray(cell.effective(params).w_hh).sum(axis=0)
    scale = np.abs(params.w_hh).sum(axis=0)
    assert np.mean(sums / scale) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("density", "count"), [(0.3, 3), (1.0, 10), (0.01, 1)])
def test_each_unit_reads_as_many_as_the_density_says(density, count):
    mask = sc.SparsePattern(density).mask(H)
    np.testing.assert_array_equal(mask.sum(axis=0), count)
    assert mask.shape == (H, H)


def test_a_pattern_is_that_of_its_seed_in_every_version():
    """Parameters that were saved have no meaning with another pattern."""
    mask = sc.SparsePattern(0.5, seed=3).mask(4)
    expected = [[1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(mask, expected)
    assert np.any(mask != sc.SparsePattern(0.5, seed=4).mask(4))


class Still(sc.Constrained):
    """One whose noise does not compute the matrix: the loop must."""

    noisy = sc.Cell.noisy


WRAPS = ("bare", "normal", "zoneout", "dropout", "noise", "stack", "still")


@pytest.mark.parametrize(
    "key", [None, pytest.param(KEY, marks=pytest.mark.slow)], ids=["no key", "key"]
)
@pytest.mark.parametrize("wrap", WRAPS)
def test_the_loop_runs_the_cell_within_with_the_effective_parameters(wrap, key):
    """Under noise and within other wrappers too, values and gradients are those of the cell."""
    inner, flags = sc.CTRNN(H, noise=0.5) if wrap == "noise" else sc.GRU(H), draw_flags()
    cell = (Still if wrap == "still" else sc.Constrained)(inner, SIGNS, PATTERN)
    within = {
        "normal": sc.LayerNorm,
        "zoneout": lambda cell: sc.Zoneout(cell, 0.3),
        "dropout": lambda cell: sc.VariationalDropout(cell, 0.3, 0.3),
        "still": lambda cell: sc.VariationalDropout(cell, 0.3, 0.3),
        "stack": lambda cell: sc.Stack((sc.Recurrent(cell), sc.RNN(2))),
    }.get(wrap, lambda cell: cell)
    net, plain = within(cell), within(inner)
    params = net.init(KEY, D)

    def held(params):
        if wrap == "normal":
            return params._replace(cell=cell.effective(params.cell))
        if wrap == "stack":
            return cell.effective(params[0]), params[1]
        return cell.effective(params)

    def loss(params, net, of):
        carry, ys = sc.unroll(net, of(params), XS, **flags, key=key)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves((carry, ys))), ys

    got, expected = (
        jax.jit(jax.value_and_grad(lambda p, a=a, of=of: loss(p, a, of), has_aux=True))(params)
        for a, of in ((net, lambda p: p), (plain, held))
    )
    assert_close(got, expected, 1e-5)


def test_engines_see_the_cell_within():
    xs = jax.ShapeDtypeStruct((500, 32, 128), "float32")
    for inner in (sc.GRU(128), sc.LSTM(128)):
        cell = sc.Constrained(inner, SIGNS, PATTERN)
        assert sc.select_engine(cell, xs) == sc.select_engine(inner, xs)
        assert sc.select_engine(sc.Zoneout(cell), xs) == sc.select_engine(sc.Zoneout(inner), xs)
    net = sc.Constrained(sc.LSTM(H), SIGNS)
    params = net.init(KEY, D)
    expected = sc.unroll(net, params, XS, engine=sc.Scan())
    for product in ("rows", "joined", "columns"):
        assert_close(
            sc.unroll(net, params, XS, engine=sc.Deferred(product=product)), expected, 1e-6
        )


WRONG = {
    "no matrix": (
        lambda: sc.Constrained(sc.IndRNN(H), SIGNS),
        ValueError,
        r"cell: expected a SplitCell with a recurrent matrix, got IndRNN\(10\): its class IndRNN",
    ),
    "a matrix that is not that of the product": (
        lambda: sc.Constrained(sc.AntisymmetricRNN(H), SIGNS),
        ValueError,
        "AntisymmetricRNN declares neither RECURRENT_WEIGHTS nor RECURRENT_MATRIX",
    ),
    "twice": (lambda: sc.Constrained(GRU, SIGNS), ValueError, "its class Constrained declares"),
    "nothing": (lambda: sc.Constrained(sc.GRU(H)), ValueError, "signs, pattern: .*at least one"),
    "a share for signs": (
        lambda: sc.Constrained(sc.GRU(H), 0.8),
        TypeError,
        "signs: expected a seqcells.Dale",
    ),
    "the other recipe": (
        lambda: sc.Constrained(sc.GRU(H), pattern=initializers.Sparse(3)),
        TypeError,
        "pattern: expected a seqcells.SparsePattern",
    ),
    "a radius of 0": (
        lambda: sc.Constrained(sc.GRU(H), SIGNS, radius=0),
        ValueError,
        "radius: .*0",
    ),
    "a share above 1": (lambda: sc.Dale(80), ValueError, "share: expected .* 0 to 1, got 80"),
    "a density of 0": (lambda: sc.SparsePattern(0), ValueError, "density: .*above 0 and at most 1"),
    "a negative seed": (lambda: sc.SparsePattern(0.1, -1), ValueError, "seed: .*from 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_says_what_was_expected(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()
