"""Each row on Haiku, Equinox and memax in docs/peers.md: what they do, and what seqcells does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import peers
from tests.support.peers import BFLOAT16, LENGTHS, XS, B, D, H, Ours, T, Table, installed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HAIKU, EQUINOX, MEMAX = Table("Haiku"), Table("Equinox"), Table("memax")
RESETS = jnp.zeros((B, T), bool).at[2, 3].set(True)
VALID = jnp.arange(T) < LENGTHS[:, None]


class Haiku:
    """`hk.dynamic_unroll` of a core, as (parameters, apply); `core(hk)` is its step and start."""

    def __init__(self, core, inputs=lambda xs: xs, **options):
        self.hk = installed("haiku")

        def net(xs, carry):
            step, start = core(self.hk)
            carry = start(len(xs)) if carry is None else carry
            return self.hk.dynamic_unroll(step, inputs(xs), carry, time_major=False, **options)

        self.net = self.hk.without_apply_rng(self.hk.transform(net))
        self.params = self.net.init(jax.random.key(0), XS, None)

    def __call__(self, params, xs, lengths=None, carry=None):
        ys, carry = self.net.apply(params, xs, carry)
        return carry, ys


def gru(hk):
    core = hk.GRU(H)
    return core, core.initial_state


def masked_gru(hk):
    core = hk.GRU(H)

    def step(inputs, old):
        x, valid = inputs
        y, new = core(x, old)
        valid = valid[:, None]
        return jnp.where(valid, y, 0), jnp.where(valid, new, old)

    return step, core.initial_state


def resettable_gru(hk):
    core = hk.ResetCore(hk.GRU(H))
    return core, core.initial_state


@HAIKU.row("NaN in the padding")
def test_nan_in_the_padding_of_haiku():
    model = Haiku(masked_gru, lambda xs: (xs, VALID))
    assert not peers.isnan(model(model.params, peers.BAD))
    assert peers.poisoned(model)
    assert peers.ours_is_inert()


@HAIKU.row("padded rows, `reverse=True`")
def test_padded_rows_read_from_the_end():
    def starts_at(model, step, **flags):
        """Whether reading of row 2 starts at this step."""
        ys = model(model.params, XS, **flags)[1][2, step]
        alone = model(model.params, XS[2:3, step : step + 1])[1][0, 0]
        return bool(jnp.allclose(ys, alone, atol=1e-6))

    haiku, ours = Haiku(gru, reverse=True), Ours()
    assert starts_at(haiku, T - 1)
    assert not starts_at(haiku, 2)
    assert starts_at(ours, 2, lengths=LENGTHS, reverse=True)


def after_the_reset(model, xs, carry=None, **flags):
    """Outputs of row 2 from its reset on, and the gradients of their squares."""

    def loss(params):
        ys = model(params, xs, carry=carry, **flags)[1][2, 3:]
        return jnp.sum(jnp.square(ys)), ys

    grads, ys = jax.grad(loss, has_aux=True)(model.params)
    return ys, grads


def with_resets(resets):
    """The two libraries, and the flags of a call."""
    return (Haiku(resettable_gru, lambda xs: (xs, resets)), {}), (Ours(), {"resets": resets})


@HAIKU.row("a reset at step t, `reverse=True`")
def test_a_reset_in_reverse():
    haiku = Haiku(resettable_gru, lambda xs: (xs, RESETS), reverse=True)
    ys = haiku(haiku.params, XS)[1][2]
    plain = Haiku(gru, reverse=True)
    for part in (slice(0, 4), slice(4, T)):  # the reset is at step 3
        expected = plain(haiku.params, XS[2:3, part])[1][0]
        np.testing.assert_allclose(ys[part], expected, atol=1e-6)
    ours = Ours()
    ys = ours(ours.params, XS, resets=RESETS, reverse=True)[1][2]
    for part in (slice(0, 3), slice(3, T)):
        expected = ours(ours.params, XS[2:3, part], reverse=True)[1][0]
        np.testing.assert_allclose(ys[part], expected, atol=1e-6)


@HAIKU.row("NaN in the carry before a reset")
def test_nan_in_the_carry_before_a_reset():
    carry = jnp.zeros((B, H)).at[2].set(jnp.nan)
    for model, flags in with_resets(RESETS.at[2, 0].set(True)):
        assert not peers.isnan(after_the_reset(model, XS, carry, **flags))


@HAIKU.row("NaN in a step before a reset")
def test_nan_in_a_step_before_a_reset():
    for model, flags in with_resets(RESETS):
        ys, grads = after_the_reset(model, XS.at[2, 1].set(jnp.nan), **flags)
        np.testing.assert_array_equal(ys, after_the_reset(model, XS, **flags)[0])
        assert peers.isnan(grads)


@HAIKU.row("two batch axes")
def test_two_batch_axes_in_haiku():
    xs = jnp.stack([XS, XS])
    with pytest.raises(ValueError, match="rank"):
        Haiku(gru)(None, xs, carry=jnp.zeros((2, B, H)))
    assert peers.ours(xs)[1].shape == (2, B, T, H)


@HAIKU.row("a bfloat16 carry and float32 inputs")
def test_a_bfloat16_carry_in_haiku():
    carry = jnp.zeros((B, H), BFLOAT16)
    model = Haiku(gru)
    with pytest.raises(TypeError, match="carry"):
        model(model.params, XS, carry=carry)
    assert peers.ours(XS, carry=carry)[0].dtype == jnp.float32


@HAIKU.row("an LSTM in bfloat16 that counts 1000 steps")
def test_counting_in_haiku():
    model = Haiku(lambda hk: (core := hk.LSTM(1), core.initial_state))
    (name,) = model.params
    open_gates = {"w": jnp.zeros((2, 4), BFLOAT16), "b": jnp.full(4, 20, BFLOAT16)}
    carry = model.hk.LSTMState(*jnp.zeros((2, 1, 1), BFLOAT16))
    end, _ = model({name: open_gates}, jnp.ones((1, 1000, 1), BFLOAT16), carry=carry)
    assert float(end.cell[0, 0]) == 256
    assert peers.our_count() == 1000


def scanned(cell, xs, carry, valid=None):
    """An Equinox cell over time [T, D], the carry held where `valid` is False."""

    def body(old, inputs):
        x, ok = inputs
        new = cell(x, old)
        new = new if ok is None else jnp.where(ok, new, old)
        return new, new

    return jax.lax.scan(body, carry, (xs, valid))


class Equinox:
    """`equinox.nn.GRUCell` under `jax.vmap` and `jax.lax.scan`, as (parameters, apply)."""

    def __init__(self):
        nn = installed("equinox").nn
        self.params, self.rest = installed("equinox").partition(
            nn.GRUCell(D, H, key=jax.random.key(0)), lambda leaf: isinstance(leaf, jax.Array)
        )

    def cell(self, params):
        return installed("equinox").combine(params, self.rest)

    def __call__(self, params, xs, lengths=None):
        one = jax.vmap(lambda xs, valid: scanned(self.cell(params), xs, jnp.zeros(H), valid))
        return one(xs, VALID)


@EQUINOX.row("NaN in the padding, `jnp.where` on the carry")
def test_nan_in_the_padding_of_equinox():
    model = Equinox()
    assert not peers.isnan(model(model.params, peers.BAD))
    assert peers.poisoned(model)
    assert peers.ours_is_inert()


@EQUINOX.row("a batch axis")
def test_a_batch_axis_in_equinox():
    model, ours = Equinox(), Ours()
    with pytest.raises(TypeError, match="dot_general"):
        model.cell(model.params)(XS[:, 0], jnp.zeros((B, H)))
    assert ours.cell.step(ours.params, jnp.zeros((B, H)), XS[:, 0])[1].shape == (B, H)


@EQUINOX.row("a bfloat16 carry and float32 inputs")
def test_a_bfloat16_carry_in_equinox():
    model = Equinox()
    with pytest.raises(TypeError, match="carry"):
        scanned(model.cell(model.params), XS[0], jnp.zeros(H, BFLOAT16))
    carry, _ = peers.ours(XS[0], carry=jnp.zeros(H, BFLOAT16))
    assert carry.dtype == jnp.float32


@EQUINOX.row("an LSTM in bfloat16 that counts 1000 steps")
def test_counting_in_equinox():
    eqx = installed("equinox")
    cell = eqx.nn.LSTMCell(1, 1, dtype=BFLOAT16, key=jax.random.key(0))
    zeros = jnp.zeros((4, 1), BFLOAT16)
    weights = (zeros, zeros, jnp.full(4, 20, BFLOAT16))
    cell = eqx.tree_at(lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias), cell, weights)

    def body(carry, x):
        return cell(x, carry), None

    carry, _ = jax.lax.scan(body, (zeros[0], zeros[0]), jnp.ones((1000, 1), BFLOAT16))
    assert float(carry[1][0]) == 256
    assert peers.our_count() == 1000


def memax_layer(name):
    """A layer of memax, H inputs and H units."""
    kind, key = getattr(installed("memax.equinox.train_utils"), name), jax.random.key(0)
    return kind(H, H, key) if name == "LRU" else kind(H, key)


NO_START = jnp.zeros(T, bool)


def memax_outputs(layer, xs, start=NO_START):
    return layer(layer.initialize_carry(), (xs, start))[1]


@MEMAX.row("NaN in a step before a reset")
@pytest.mark.parametrize("name", ["GRU", "LRU"])
def test_nan_before_a_reset_of_memax(name):
    xs, key, start = jnp.ones((T, H)), jax.random.key(0), jnp.arange(T) == 3
    bad = xs.at[1].set(jnp.nan)
    assert bool(jnp.isnan(memax_outputs(memax_layer(name), bad, start)[3:]).all())
    cell = getattr(sc, name)(H)
    params = cell.init(key, H)
    for engine in (sc.Scan(), sc.AssociativeScan())[: 1 + (name == "LRU")]:
        options = {"resets": start, "engine": engine}
        ours, clean = (sc.unroll(cell, params, xs, **options)[1] for xs in (bad, xs))
        np.testing.assert_array_equal(ours[3:], clean[3:])


@MEMAX.row("NaN in the padding, the outputs masked")
@pytest.mark.parametrize("name", ["GRU", "LRU"])
def test_nan_in_the_padding_of_memax(name):
    eqx, layer = installed("equinox"), memax_layer(name)
    bad = jnp.ones((T, H)).at[3:].set(jnp.nan)

    def loss(layer):
        return jnp.sum(jnp.square(memax_outputs(layer, bad)[:3]))

    value, grads = eqx.filter_value_and_grad(loss)(layer)
    assert not peers.isnan(value)
    assert peers.isnan(grads)
    assert peers.ours_is_inert()


@MEMAX.row("a batch axis")
def test_a_batch_axis_in_memax():
    layer, xs = memax_layer("GRU"), jnp.ones((B, T, H))
    with pytest.raises(Exception, match="Type-check error"):
        memax_outputs(layer, xs, jnp.zeros((B, T), bool))
    assert jax.vmap(lambda xs: memax_outputs(layer, xs))(xs).shape == (B, T, H)


@MEMAX.row("a bfloat16 carry and float32 inputs")
def test_a_bfloat16_carry_in_memax():
    layer = memax_layer("GRU")
    h, start = layer.initialize_carry()
    with pytest.raises(TypeError, match="carry"):
        layer((h.astype(BFLOAT16), start), (jnp.ones((T, H)), NO_START))
    assert peers.ours(XS, carry=jnp.zeros((B, H), BFLOAT16))[0].dtype == jnp.float32


@MEMAX.row("skip connections")
def test_skip_connections_of_memax():
    utils, key = installed("memax.equinox.train_utils"), jax.random.key(0)
    layer = memax_layer("GRU")
    silent = jax.tree.map(lambda a: 0 * a if isinstance(a, jax.Array) else a, layer)
    net = utils.ResidualModel(lambda recurrent_size, key: silent, D, 2, H, key=key)
    ones = jnp.ones((T, D))
    one, two = (memax_outputs(net, xs) for xs in (ones, 2 * ones))
    np.testing.assert_array_equal(one, two)
    stack, residual = sc.Stack((sc.GRU(H), sc.GRU(H)), skip=True), sc.Residual(sc.GRU(D))
    params = stack.init(key, D)
    assert params[1].w_ih.shape[0] == H + D
    silent = jax.tree.map(jnp.zeros_like, residual.init(key, D))
    np.testing.assert_array_equal(sc.unroll(residual, silent, XS)[1], XS)


@MEMAX.row("output of the LSTM")
def test_the_output_of_the_lstm_of_memax():
    layer = memax_layer("LSTM")
    ((c, h), _), ys = layer(layer.initialize_carry(), (5 * jnp.ones((T, H)), NO_START))
    step = layer.algebra.algebra
    before = jnp.concatenate([jnp.zeros((1, H)), h[:-1]])
    o = jax.nn.sigmoid(jax.vmap(step.W_o)(5 * jnp.ones((T, H))) + jax.vmap(step.U_o)(before))
    np.testing.assert_allclose(ys, o * c, rtol=1e-5)
    carry, ys = sc.unroll(sc.LSTM(H), sc.LSTM(H).init(jax.random.key(0), D), XS[0])
    assert bool((jnp.abs(ys[-1]) <= jnp.abs(jnp.tanh(carry.c))).all())


@pytest.mark.parametrize("table", [HAIKU, EQUINOX, MEMAX], ids=["haiku", "equinox", "memax"])
def test_every_row_has_a_test(table):
    table.check()
