"""Laws of dropout, zoneout and layer norm around a cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import B, D, H, T, all_flags, assert_close, assert_same_bits, draw_flags

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
XS = jnp.sin(jnp.arange(T * B * D, dtype="float32")).reshape(T, B, D)
WIDE = 2000  # units enough for a share to be told


def identity(size, w_ih, w_hh):
    """A cell whose output is its sum: h_t = w_hh h + w_ih x, both diagonal."""
    eye = jnp.eye(size)
    return sc.RNN(size, "identity", bias="none"), sc.RNNParams(w_ih * eye, w_hh * eye, None)


WRAPPED = {
    "dropout": lambda cell: sc.VariationalDropout(cell, 0.4, 0.4),
    "zoneout": lambda cell: sc.Zoneout(cell, 0.4),
    "both": lambda cell: sc.Zoneout(sc.VariationalDropout(cell, 0.4, 0.4), 0.4),
    "around": lambda cell: sc.VariationalDropout(sc.Zoneout(cell, 0.4), 0.4),
    "normal": lambda cell: sc.VariationalDropout(sc.LayerNorm(cell), 0.4, 0.4),
}
over_wrapped = pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)


@over_wrapped
@pytest.mark.parametrize("cell", [sc.GRU(H), sc.LSTM(H)], ids=["GRU", "LSTM"])
def test_a_key_makes_the_noise_and_no_key_makes_none(wrap, cell):
    cell = wrap(cell)
    params = cell.init(KEY, D)
    drawn = [sc.unroll(cell, params, XS, key=jax.random.key(seed))[1] for seed in (1, 1, 2)]
    still = [sc.unroll(cell, params, XS)[1] for _ in range(2)]
    assert_same_bits(drawn[0], drawn[1])
    assert_same_bits(still[0], still[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3
    assert np.abs(drawn[0] - still[0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["both", "normal"])
def test_noise_is_that_of_the_key_whatever_the_engine(name):
    cell, flags = WRAPPED[name](sc.LSTM(H)), draw_flags()
    params = cell.init(KEY, D)

    def loss(params, engine):
        _, ys = sc.unroll(cell, params, XS, **flags, reverse=True, key=KEY, engine=engine)
        return jnp.sum(jnp.square(ys))

    engines = (sc.Scan(), sc.Scan(checkpoint="sqrt", unroll=3))
    plain, other = (jax.jit(jax.grad(loss))(params, engine) for engine in engines)
    assert_close(other, plain, 1e-5)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(plain))


@over_wrapped
def test_padding_is_inert_under_noise(wrap):
    cell = wrap(sc.GRU(H))
    params, flags = cell.init(KEY, D), all_flags(lengths=np.array([T, 3, 0]))
    valid = (np.arange(T)[:, None] < flags["lengths"])[..., None]

    def loss(params, xs):
        carry, ys = sc.unroll(cell, params, xs, **flags, key=KEY)
        return jnp.sum(jnp.square(ys)) + jnp.sum(jnp.square(carry)), ys

    graded = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    clean, dirty = (graded(params, jnp.where(valid, XS, fill)) for fill in (0.0, jnp.nan))
    assert_same_bits(dirty, clean)
    assert not np.any(np.asarray(clean[1])[~valid[..., 0]])


def test_rates_of_zero_change_nothing():
    cell = sc.GRU(H)
    params = cell.init(KEY, D)
    for wrapped in (sc.VariationalDropout(cell), sc.Zoneout(cell, 0.0)):
        assert_close(sc.unroll(wrapped, params, XS, key=KEY), sc.unroll(cell, params, XS), 1e-6)


def test_the_input_mask_is_one_a_sequence_and_keeps_the_mean():
    cell, params = identity(WIDE, 1.0, 0.0)
    cell = sc.VariationalDropout(cell, input_rate=0.3)
    _, ys = sc.unroll(cell, params, jnp.ones((T, 2, WIDE)), key=KEY)
    assert_same_bits(ys, jnp.broadcast_to(ys[0], ys.shape))  # the same at every step
    assert np.any(ys[0, 0] != ys[0, 1])  # and another for another sequence
    np.testing.assert_allclose(np.unique(ys), [0, 1 / 0.7], rtol=1e-6)
    assert np.mean(np.asarray(ys[0]) == 0) == pytest.approx(0.3, abs=0.03)


def test_the_recurrent_mask_is_on_the_product():
    cell, params = identity(WIDE, 0.0, 1.0)
    cell = sc.VariationalDropout(cell, recurrent_rate=0.5)
    _, ys = sc.unroll(cell, params, jnp.ones((3, WIDE)), jnp.ones(WIDE), key=KEY)
    assert set(np.unique(ys[0])) == {0, 2}
    assert np.mean(np.asarray(ys[0]) == 0) == pytest.approx(0.5, abs=0.04)
    assert_same_bits(ys[2], ys[0] ** 3)


ONES = jnp.ones((2, 2, 100))  # two steps of two rows
THROUGH = identity(100, 1.0, 0.0)  # puts out what it reads
HELD = identity(100, 0.0, 1.0)  # puts out what it held


def zeros(net, params, carry=None):
    """Where noise makes an output zero, bool[T, B, H]."""
    return np.asarray(sc.unroll(net, params, ONES, carry, key=KEY)[1] == 0)


def kept(cell, params):
    """Where zoneout keeps a carry of ones, for each leaf bool[B, H]."""
    ones = jax.tree.map(jnp.ones_like, cell.init_carry(ONES[0]))
    carry, _ = sc.unroll(cell, params, ONES[:1], ones, key=KEY)
    return [np.asarray(leaf == 1) for leaf in jax.tree.leaves(carry)]


def halves():
    cell, params = THROUGH
    layer = sc.Bidirectional(sc.VariationalDropout(cell, 0.5))
    return np.split(zeros(layer, sc.layers.Both(params, params))[0], 2, axis=-1)


def leaves():
    """Dropout of inputs that are a pair of arrays."""
    step, start = (lambda params, carry, x: (carry, x)), (lambda x: 0 * x[0])
    cell = sc.FunctionCell(step, start, lambda key, size: None)
    net = sc.VariationalDropout(cell, 0.5)
    return [np.asarray(y == 0)[0] for y in sc.unroll(net, None, (ONES, ONES), key=KEY)[1]]


MASKS = {  # pairs of masks that are drawn apart
    "the rows of an input": lambda: zeros(sc.VariationalDropout(THROUGH[0], 0.5), THROUGH[1])[0],
    "the rows of a carry": lambda: zeros(
        sc.VariationalDropout(HELD[0], 0.0, 0.5), HELD[1], ONES[0]
    )[0],
    "the rows of what is kept": lambda: zeros(sc.Zoneout(THROUGH[0], 0.5), THROUGH[1])[0],
    "the leaves of what is kept": lambda: kept(
        sc.Zoneout(sc.LSTM(100), 0.5), sc.LSTM(100).init(KEY, 100)
    ),
    "the leaves of an input": leaves,
    "the ways of a layer": halves,
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_drawn_apart_for(name):
    one, two = MASKS[name]()
    for mask in (one, two):
        assert np.mean(mask) == pytest.approx(0.5, abs=0.15)
    assert np.mean(one != two) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("between", [False, True], ids=["within layers", "between layers"])
def test_masks_are_drawn_apart_for_the_layers_of_a_stack(between):
    """What goes through two masks of a half is a quarter, if they know nothing of each other."""
    cell, params = THROUGH
    if between:
        net, count = sc.Stack((cell,) * 3, dropout=0.5), 3
    else:
        net, count = sc.Stack((sc.VariationalDropout(cell, 0.5),) * 2), 2
    assert np.mean(zeros(net, (params,) * count)) == pytest.approx(0.75, abs=0.1)


def test_a_stack_drops_nothing_of_its_own_input_and_output():
    cell, params = THROUGH
    assert not np.any(zeros(sc.Stack((cell,), dropout=0.5), (params,)))


@pytest.mark.parametrize("wrap", [sc.Zoneout, sc.VariationalDropout])
def test_a_wrapper_keeps_the_noise_of_the_cell_within(wrap):
    cell, params = THROUGH
    assert not np.any(zeros(wrap(cell, 0.0), params))
    assert np.any(zeros(wrap(sc.VariationalDropout(cell, 0.5), 0.0), params))


def test_what_the_gates_keep_is_not_dropped():
    zeros = jnp.zeros((H, 3 * H))
    bias = jnp.repeat(jnp.array([0.0, -40.0, 0.0]), H)  # z = 0: nothing is written
    params = sc.GRUParams(zeros, zeros, bias, None)
    cell = sc.VariationalDropout(sc.GRU(H, bias="single"), recurrent_rate=0.9)
    carry, _ = sc.unroll(cell, params, jnp.ones((T, B, H)), jnp.ones((B, H)), key=KEY)
    assert_close(carry, jnp.ones((B, H)), 1e-6)


def test_zoneout_keeps_a_share_of_the_units_anew_at_every_step():
    cell, params = identity(WIDE, 1.0, 0.0)
    xs = jnp.broadcast_to(jnp.arange(1.0, 5.0)[:, None], (4, WIDE))
    _, ys = sc.unroll(sc.Zoneout(cell, 0.2), params, xs, key=KEY)
    before = jnp.concatenate([jnp.zeros((1, WIDE)), ys[:-1]])
    kept = np.asarray(ys != xs)
    np.testing.assert_array_equal(ys, np.where(kept, before, xs))
    np.testing.assert_allclose(kept.mean(axis=1), 0.2, atol=0.04)
    assert np.any(kept[0] != kept[1])


def test_zoneout_without_a_key_is_the_mean_over_keys():
    cell, params = identity(1, 1.0, 0.5)
    cell, xs = sc.Zoneout(cell, 0.3), jnp.array([[1.0], [-2.0], [3.0]])
    keys = jax.random.split(KEY, 20_000)
    draws = jax.vmap(lambda key: sc.unroll(cell, params, xs, key=key)[1])(keys)
    assert_close(sc.unroll(cell, params, xs)[1], jnp.mean(draws, axis=0), 0.03)


def test_zoneout_has_a_rate_for_every_leaf():
    cell = sc.Zoneout(sc.LSTM(H), (0.0, 0.99999))
    params = cell.init(KEY, D)
    carry, _ = sc.unroll(cell, params, XS, key=KEY)
    assert not np.any(carry.c)
    assert np.any(sc.unroll(sc.Zoneout(sc.LSTM(H), (0.99999, 0.0)), params, XS, key=KEY)[0].c)
    with pytest.raises(ValueError, match="rate: expected one or a tuple of 2"):
        sc.unroll(sc.Zoneout(sc.LSTM(H), (0.1, 0.2, 0.3)), params, XS)


def test_a_resets_noise_is_that_of_its_row():
    """The mask of a sequence stays after a reset: packed rows share it."""
    cell, params = identity(WIDE, 1.0, 0.0)
    resets = jnp.arange(T) == 3
    cell = sc.VariationalDropout(cell, input_rate=0.3)
    _, ys = sc.unroll(cell, params, jnp.ones((T, WIDE)), resets=resets, key=KEY)
    assert_same_bits(ys, jnp.broadcast_to(ys[0], ys.shape))


BAD = {
    "rate of 1": (lambda: sc.Zoneout(sc.GRU(H), 1.0), "rate: .* below 1, got 1.0"),
    "a negative rate": (lambda: sc.VariationalDropout(sc.GRU(H), -0.1), "input_rate: .*-0.1"),
    "a rate that is True": (lambda: sc.Zoneout(sc.GRU(H), True), "rate: .*True"),
    "a product that comes twice": (
        lambda: sc.VariationalDropout(sc.GRU(H, reset_after=False), 0.1, 0.1),
        "recurrent_rate: .*two products",
    ),
    "a norm of what has no gates": (lambda: sc.LayerNorm(sc.MinGRU(H)), "cell: .*not a SplitCell"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_a_wrapper_that_cannot_be_says_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_wrapper_of_no_cell_says_so():
    with pytest.raises(TypeError, match=r"cell: expected a seqcells\.Cell"):
        sc.Zoneout(3)
