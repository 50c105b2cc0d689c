"""Each row on xlstm, recurrentgemma and fla in docs/peers.md: what they do, and what we do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import peers
from tests.support.peers import BFLOAT16, LENGTHS, XS, B, H, T, Table, installed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

XLSTM, GRIFFIN, FLA = Table("xlstm"), Table("recurrentgemma"), Table("fla")
VALID = np.arange(T) < np.asarray(LENGTHS)[:, None]
WIDE = jax.random.normal(jax.random.key(1), (B, T, H))  # for cells with a feature a unit


def tensor(array):
    return installed("torch").tensor(np.asarray(array))


def gradients(loss, leaves):
    """Whether a loss is NaN, and whether any gradient is."""
    loss.backward()
    return bool(loss.isnan()), any(bool(leaf.grad.isnan().any()) for leaf in leaves)


@functools.cache
def xlstm_cell(**options):
    """A cell of xlstm, with drawn recurrent weights."""
    installed("torch").manual_seed(0)
    cells = installed("xlstm.blocks.slstm.cell")
    options = {"backend": "vanilla", "dtype": "float32", **options}
    config = cells.sLSTMCellConfig(
        hidden_size=H, num_heads=2, recurrent_weight_init="standard", **options
    )
    return cells.sLSTMCell(config)


def gates(first=None):
    """The sums of the gates i|f|z|o of all steps [B, T, 4H]; `first` is i of row 0 at step 0."""
    sums = jnp.concatenate([XS, XS, XS, XS, XS, XS], axis=-1)[..., : 4 * H]
    return sums if first is None else sums.at[0, 0, :H].set(first)


def our_slstm(xs, carry=None, **flags):
    """Our cell on the sums of its gates."""
    eye = jnp.eye(4 * H, dtype=xs.dtype)
    params = sc.SLSTMParams(eye, jnp.zeros((H, 4 * H), xs.dtype), None)
    return sc.unroll(sc.SLSTM(H, bias="none"), params, xs, carry, time_axis=1, **flags)


@XLSTM.row('the default backend, "cuda", without a CUDA toolkit')
def test_the_default_backend_of_xlstm(monkeypatch):
    torch = installed("torch")
    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    monkeypatch.delenv("CUDA_LIB", raising=False)
    with pytest.raises(KeyError, match="CUDA_LIB"):
        xlstm_cell(backend="cuda")
    assert our_slstm(gates())[1].shape == (B, T, H)


@XLSTM.row("`step`")
def test_a_step_of_xlstm():
    cell = xlstm_cell()
    _, carry = cell(tensor(gates()))
    _, after = cell.step(tensor(gates()[:, :1]), carry)
    _, expected = cell(tensor(gates()[:, :1]), carry)
    assert bool((after == carry).all())
    assert not bool((expected == carry).all())
    ours = sc.SLSTM(H)
    params, start = ours.init(jax.random.key(0), H), ours.init_carry(WIDE[:, 0])
    one = ours.step(params, start, WIDE[:, 0])[0]
    all_steps = sc.unroll(ours, params, WIDE[:, :1], time_axis=1)[0]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, all_steps))
    assert not bool((one.h == start.h).all())


@XLSTM.row("`lengths=`")
def test_lengths_of_xlstm():
    cell = xlstm_cell()
    given = cell(tensor(gates()), lengths=tensor(LENGTHS))[1]
    assert bool((given == cell(tensor(gates()))[1]).all())
    carry, _ = our_slstm(gates(), lengths=LENGTHS)
    short, _ = our_slstm(gates()[2:3, :3])
    np.testing.assert_allclose(carry.h[2], short.h[0], rtol=1e-6)


@XLSTM.row("a fresh row whose first input gate is -200, beside a row that goes on")
def test_a_fresh_row_beside_another():
    xs, cell = gates(first=-200), xlstm_cell()
    _, carry = cell(tensor(gates()))
    carry = carry.detach().clone()
    carry[:, 0] = 0
    assert bool(cell(tensor(xs), carry)[0][0].isnan().any())
    assert not bool(cell(tensor(xs[:1]))[0].isnan().any())
    mine, _ = our_slstm(gates())
    mine = jax.tree.map(lambda a: a.at[0].set(0), mine)
    np.testing.assert_allclose(our_slstm(xs, mine)[1][0], our_slstm(xs[:1])[1][0], rtol=1e-6)


@XLSTM.row("weights of `sLSTMLayer`")
def test_the_names_of_the_gates_of_xlstm():
    torch, layers = installed("torch"), installed("xlstm")
    options = {"embedding_dim": H, "num_heads": 2, "conv1d_kernel_size": 0}
    layer = layers.sLSTMLayer(
        layers.sLSTMLayerConfig(backend="vanilla", dtype="float32", **options)
    )
    layer.reset_parameters()
    seen = []
    layer.slstm_cell.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    layer(tensor(WIDE))
    i, f, _, _ = torch.chunk(seen[0], 4, dim=-1)
    assert bool((i == layer.fgate(tensor(WIDE))).all())
    assert bool((f == layer.igate(tensor(WIDE))).all())
    assert sc.SLSTM.GATES == ("i", "f", "z", "o")


@XLSTM.row("NaN in the padding, the outputs masked")
def test_nan_in_the_padding_of_xlstm():
    cell = xlstm_cell()
    cell.zero_grad()
    xs = gates().at[2, 3:].set(jnp.nan)
    ys = cell(tensor(xs))[0]  # [B, heads, T, H/heads]
    assert gradients((ys[2, :, :3] ** 2).sum(), list(cell.parameters())) == (False, True)
    assert peers.ours_is_inert()


@XLSTM.row("two batch axes")
def test_two_batch_axes_in_xlstm():
    with pytest.raises(RuntimeError, match="size of tensor"):
        xlstm_cell()(tensor([gates(), gates()]))
    assert peers.ours(jnp.stack([XS, XS]))[1].shape == (2, B, T, H)


@XLSTM.row("n after 1000 steps with open gates in bfloat16")
def test_a_count_of_xlstm():
    torch = installed("torch")
    xs = np.zeros((1, 1000, 4 * H), "float32")
    xs[..., H : 2 * H] = 50
    cell = xlstm_cell(bias_init="zeros").to(torch.bfloat16)
    _, (_, _, n, _) = cell(tensor(xs).bfloat16())
    assert float(n[0, 0]) == 256
    assert float(our_slstm(jnp.asarray(xs, BFLOAT16))[0].n[0, 0]) == 1000


class Griffin:
    """`recurrentgemma.jax.RGLRU`, as (parameters, apply)."""

    def __init__(self, width=H, **options):
        self.module = installed("recurrentgemma.jax").RGLRU(width=width, num_heads=2, **options)
        self.params = self.module.init(jax.random.key(0), WIDE, self.positions())

    def positions(self, resets=None):
        """The positions of all steps, from 0 at the first and at each reset."""
        if resets is None:
            return jnp.broadcast_to(jnp.arange(T), (B, T))
        return jnp.where(resets, 0, 1)

    def __call__(self, params, xs, resets=None, carry=None):
        ys, carry = self.module.apply(params, xs, self.positions(resets), carry)
        return carry, ys

    def ours(self, xs, *args, dtype=None, **flags):
        """Our cell with these weights."""
        cell = sc.RGLRU(H, heads=2, dtype=dtype)
        params = sc.interop.recurrentgemma.load(self.params["params"], cell)
        return sc.unroll(cell, params, xs, *args, time_axis=1, **flags)


RESETS = jnp.zeros((B, T), bool).at[2, 3].set(True)
STARTS = RESETS.at[:, 0].set(True)


@GRIFFIN.row("a given carry at `segment_pos` 0")
def test_a_carry_at_position_0():
    model, ones = Griffin(), jnp.ones((B, H))
    np.testing.assert_array_equal(
        model(model.params, WIDE, carry=ones)[1], model(model.params, WIDE)[1]
    )
    theirs = model(model.params, WIDE, RESETS, carry=ones)[1]  # no reset at the first step
    np.testing.assert_allclose(theirs, model.ours(WIDE, ones, resets=RESETS)[1], atol=1e-6)
    first = jnp.zeros((B, T), bool).at[:, 0].set(True)
    fresh = model.ours(WIDE, resets=first)[1]
    np.testing.assert_array_equal(model.ours(WIDE, ones, resets=first)[1], fresh)
    assert not bool((model.ours(WIDE, ones)[1] == fresh).all())


@GRIFFIN.row("NaN in a step before a reset")
def test_nan_before_a_reset_of_recurrentgemma():
    model, bad = Griffin(), WIDE.at[2, 1].set(jnp.nan)
    good = model(model.params, WIDE, STARTS)[1]
    assert not peers.isnan(good)
    assert bool(jnp.isnan(model(model.params, bad, STARTS)[1][2, 3:]).all())
    np.testing.assert_allclose(model.ours(bad, resets=STARTS)[1][2, 3:], good[2, 3:], atol=1e-6)


@GRIFFIN.row("NaN in the padding, the outputs masked")
def test_nan_in_the_padding_of_recurrentgemma():
    model, bad = Griffin(), WIDE.at[2, 3:].set(jnp.nan)

    def loss(params):
        return jnp.sum(jnp.square(model(params, bad)[1][2, :3]))

    value, grads = jax.value_and_grad(loss)(model.params)
    assert not peers.isnan(value)
    assert peers.isnan(grads)
    assert peers.ours_is_inert()


@GRIFFIN.row("`jax.jvp`")
def test_forward_mode_of_recurrentgemma():
    model = Griffin()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda xs: model(model.params, xs)[1], (WIDE,), (WIDE,))
    assert jax.jvp(lambda xs: model.ours(xs)[1], (WIDE,), (WIDE,))[1].shape == WIDE.shape


@GRIFFIN.row("bfloat16, units that keep .9995")
def test_units_that_keep_much_in_bfloat16():
    model, ones = Griffin(dtype=BFLOAT16), jnp.ones((B, T, H), BFLOAT16)
    rate = jnp.log(jnp.expm1(-jnp.log(0.9995) / 4))  # the gate of r is one half
    zero = jax.tree.map(jnp.zeros_like, model.params["params"])
    model.params = {"params": zero | {"a_param": jnp.full(H, rate)}}
    assert bool((model(model.params, ones, RESETS)[1][0] == 0).all())
    exact = model.ours(ones.astype(jnp.float32))[1]
    np.testing.assert_allclose(model.ours(ones)[1].astype(jnp.float32), exact, rtol=1e-2)
    assert float(exact.min()) > 0.01


@GRIFFIN.row("an odd number of units")
def test_an_odd_number_of_units():
    with pytest.raises(AssertionError):
        Griffin(width=3)
    cell = sc.RGLRU(3)
    params = cell.init(jax.random.key(0), 3)
    assert sc.unroll(cell, params, WIDE[..., :3])[1].shape == (B, T, 3)


@GRIFFIN.row("two batch axes")
def test_two_batch_axes_in_recurrentgemma():
    model, both = Griffin(), jnp.stack([WIDE, WIDE])
    positions = jnp.stack([model.positions()] * 2)
    with pytest.raises(ValueError, match="unpack"):
        model.module.apply(model.params, both, positions)
    assert peers.ours(jnp.stack([XS, XS]))[1].shape == (2, B, T, H)


@GRIFFIN.row("no steps, T = 0")
def test_no_steps_in_recurrentgemma():
    model = Griffin()
    with pytest.raises(IndexError):
        model.module.apply(model.params, WIDE[:, :0], model.positions()[:, :0])
    assert bool((model.ours(WIDE[:, :0], jnp.ones((B, H)))[0] == 1).all())


@pytest.fixture
def hgrn():
    """`h_t = exp(g_t) h_{t-1} + x_t` in fla, without a kernel."""
    installed("torch")
    return installed("fla.ops.hgrn.naive").naive_recurrent_hgrn


def our_linear(xs, kept, **flags):
    """The same in ours: a minGRU whose z is closed by `kept`, the share in [0, 1)."""
    eye = jnp.eye(2 * H, dtype=xs.dtype)
    params = sc.MinGRUParams(eye, None)
    z = jnp.log1p(-kept) - jnp.log(kept)
    drive = jnp.concatenate([z, xs / (1 - kept)], axis=-1)
    return sc.unroll(sc.MinGRU(H, bias="none"), params, drive, time_axis=1, **flags)


KEPT = jax.nn.sigmoid(WIDE[::-1])


@FLA.row("without a GPU")
def test_fla_without_a_gpu(hgrn):
    torch, fla = installed("torch"), installed("fla")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    x, g = tensor(WIDE), tensor(jnp.log(KEPT))
    layer = fla.HGRNAttention(hidden_size=8)
    for call in (
        lambda: layer(torch.ones(B, T, 8)),
        lambda: fla.ops.hgrn.fused_recurrent_hgrn(x, g),
        lambda: fla.ops.hgrn.chunk_hgrn(x, g),
    ):
        with pytest.raises(RuntimeError, match="active drivers"):
            call()
    np.testing.assert_allclose(hgrn(x, g)[0], our_linear(WIDE, KEPT)[1], atol=1e-5)


@FLA.row("NaN in the padding, the outputs masked")
def test_nan_in_the_padding_of_fla(hgrn):
    w = tensor(jnp.ones(H)).requires_grad_()
    bad = tensor(WIDE.at[2, 3:].set(jnp.nan))
    ys = hgrn(w * bad, tensor(jnp.log(KEPT)))[0]
    assert gradients((ys[2, :3] ** 2).sum(), [w]) == (False, True)
    assert peers.ours_is_inert()


@FLA.row("NaN in a step before a forget gate that is closed")
def test_nan_before_a_closed_gate(hgrn):
    bad, closed = WIDE.at[2, 1].set(jnp.nan), jnp.log(KEPT).at[2, 3].set(-jnp.inf)
    assert bool(hgrn(tensor(bad), tensor(closed))[0][2, 3:].isnan().all())
    good = hgrn(tensor(WIDE), tensor(closed))[0][2, 3:]
    np.testing.assert_allclose(our_linear(bad, KEPT, resets=RESETS)[1][2, 3:], good, atol=1e-5)


@FLA.row("float64")
def test_float64_in_fla(hgrn):
    x, g = np.asarray(WIDE, np.float64) / 3, np.log(np.asarray(KEPT, np.float64))
    h, exact = np.zeros((B, H)), []
    for t in range(T):
        h = np.exp(g[:, t]) * h + x[:, t]
        exact.append(h)
    exact = np.stack(exact, axis=1)
    theirs = hgrn(tensor(x), tensor(g))[0].numpy()
    assert theirs.dtype == np.float64
    assert np.abs(theirs - exact).max() > 1e-9
    with jax.enable_x64(True):
        ours = our_linear(jnp.asarray(x), jnp.exp(jnp.asarray(g)))[1]
        np.testing.assert_allclose(ours, exact, atol=1e-12)


@FLA.row("two batch axes")
def test_two_batch_axes_in_fla(hgrn):
    with pytest.raises(ValueError, match="unpack"):
        hgrn(tensor(WIDE[None]), tensor(KEPT[None]))
    assert peers.ours(jnp.stack([XS, XS]))[1].shape == (2, B, T, H)


@pytest.mark.parametrize("table", [XLSTM, GRIFFIN, FLA], ids=["xlstm", "recurrentgemma", "fla"])
def test_every_row_has_a_test(table):
    table.check()
