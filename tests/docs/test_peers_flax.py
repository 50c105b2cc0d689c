"""Each row on Flax in docs/peers.md: what it does, and what seqcells does instead."""

import flax.errors
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqcells as sc
from tests.support import peers
from tests.support.peers import BFLOAT16, LENGTHS, XS, B, D, H, Ours, T, Table, ours_is_inert

FLAX = Table("Flax")


class Nnx:
    """`flax.nnx.RNN`, as (parameters, apply)."""

    def __init__(self, **options):
        cell = nnx.GRUCell(D, H, rngs=nnx.Rngs(0), **options)
        self.module = nnx.RNN(cell, return_carry=True)
        self.graph, self.params, self.rest = nnx.split(self.module, nnx.Param, ...)

    def __call__(self, params, xs, lengths=None):
        carry = jnp.zeros((*xs.shape[:-2], H))  # else it draws a key, which no closure may
        module = nnx.merge(self.graph, params, self.rest)
        return module(xs, initial_carry=carry, seq_lengths=lengths)


class Linen:
    """`flax.linen.RNN`, as (parameters, apply)."""

    def __init__(self, **options):
        self.module = flax.linen.RNN(flax.linen.GRUCell(H, **options), return_carry=True)
        self.params = self.module.init(jax.random.key(0), XS)

    def __call__(self, params, xs, lengths=None):
        return self.module.apply(params, xs, seq_lengths=lengths)


pytestmark = pytest.mark.slow
PEERS = pytest.mark.parametrize("peer", [Nnx, Linen])


def kept_initial_carry(model):
    carry, _ = model(model.params, XS, LENGTHS)
    return bool((carry[0] == 0).all())


@FLAX.row("NaN in the padding")
@PEERS
def test_nan_in_the_padding(peer):
    assert peers.poisoned(peer())
    assert ours_is_inert()


@FLAX.row("a row of length 0")
@PEERS
def test_a_row_of_length_0(peer):
    assert not kept_initial_carry(peer())
    assert kept_initial_carry(Ours())


@FLAX.row("lengths with two batch axes")
@PEERS
def test_lengths_of_two_batch_axes(peer):
    xs, lengths = jnp.stack([XS, XS]), jnp.stack([LENGTHS, LENGTHS])
    model = peer()
    with pytest.raises(ValueError, match="shape"):
        model(model.params, xs, lengths)
    both, alone = peers.ours(xs, lengths)[1], peers.ours(XS, LENGTHS)[1]
    np.testing.assert_allclose(both[1], alone, rtol=1e-6)


@FLAX.row("a length above T")
@PEERS
def test_a_length_above_t(peer):
    model = peer()
    model(model.params, XS, LENGTHS + T)
    with pytest.raises(ValueError, match="lengths"):
        peers.ours(XS, LENGTHS + T)


@FLAX.row("bfloat16 parameters with the default initialiser")
@PEERS
def test_bfloat16_parameters(peer):
    with pytest.raises((NotImplementedError, TypeError), match="bfloat16"):
        peer(param_dtype=BFLOAT16)
    ours = Ours(param_dtype=BFLOAT16)
    carry, ys = ours(ours.params, XS.astype(BFLOAT16))
    assert (carry.dtype, ys.dtype) == (jnp.float32, BFLOAT16)


@FLAX.row("`jax.jit(lambda xs: rnn(xs))`, which closes over the module")
def test_a_closure_over_the_module_is_jitted():
    peer = Nnx().module
    with pytest.raises(flax.errors.TraceContextError):
        jax.jit(lambda xs: peer(xs))(XS)
    cell, carry = nnx.GRUCell(D, H, rngs=nnx.Rngs(0)), jnp.zeros((B, H))
    careful = nnx.RNN(cell, rngs=False, state_axes={...: None})
    with pytest.raises(ValueError, match="different trace level"):
        jax.jit(lambda xs: careful(xs, initial_carry=carry))(XS)
    rnn = sc.nnx.RNN(sc.GRU(H), D, rngs=nnx.Rngs(0))
    assert jax.jit(lambda xs: rnn(xs))(XS)[1].shape == (B, T, H)


@FLAX.row("orthogonal recurrent weights of a GRU")
def test_spectral_radius_of_a_gate():
    def radius(matrix):
        return float(np.abs(np.linalg.eigvals(np.asarray(matrix))).max())

    fused = nnx.GRUCell(D, 64, rngs=nnx.Rngs(0)).dense_h.kernel[...]
    assert radius(fused[:, :64]) == pytest.approx(0.58, abs=0.03)
    linen = flax.linen.GRUCell(64).init(jax.random.key(0), jnp.ones((1, 64)), jnp.ones((1, D)))
    ours = sc.GRU(64).init(jax.random.key(0), D).w_hh[:, :64]
    for whole in (linen["params"]["hr"]["kernel"], ours):
        assert radius(whole) == pytest.approx(1, abs=1e-5)


@FLAX.row("z in the GRU")
@PEERS
def test_z(peer):
    model, ours = peer(), Ours()
    if peer is Linen:
        model.params["params"]["cell"]["iz"]["bias"] += 50
    else:
        bias = model.module.cell.dense_i.bias
        bias[...] = bias[...].at[H : 2 * H].add(50)
        model.params = nnx.state(model.module, nnx.Param)
    mine = ours.params._replace(b_ih=ours.params.b_ih.at[H : 2 * H].add(50))
    assert bool((model(model.params, XS)[0] == 0).all())  # z = 1 keeps the carry of zeros
    assert not bool((ours(mine, XS)[0] == 0).any())  # z = 1 writes


@FLAX.row("`dtype=bfloat16`, default carry")
@pytest.mark.parametrize(("cell", "works"), [("SimpleCell", False), ("GRUCell", True)])
def test_computing_in_bfloat16(cell, works):
    linen = flax.linen.RNN(getattr(flax.linen, cell)(H, dtype=BFLOAT16), return_carry=True)
    peer = nnx.RNN(getattr(nnx, cell)(D, H, dtype=BFLOAT16, rngs=nnx.Rngs(0)), return_carry=True)
    for run in (lambda: linen.init_with_output(jax.random.key(0), XS)[0], lambda: peer(XS)):
        if works:
            assert run()[0].dtype == jnp.float32
        else:
            with pytest.raises(TypeError, match="carry"):
                run()
    for kind in (sc.RNN, sc.GRU):
        ours = Ours(cell=kind)
        carry, ys = ours(ours.params, XS.astype(BFLOAT16))
        assert (carry.dtype, ys.dtype) == (jnp.float32, BFLOAT16)


@FLAX.row("bfloat16 parameters and float32 inputs")
@PEERS
def test_bfloat16_parameters_and_float32_inputs(peer):
    init = nnx.initializers.lecun_normal()
    with pytest.raises(TypeError, match="carry"):
        peer(param_dtype=BFLOAT16, recurrent_kernel_init=init).module(XS)
    ours = Ours(param_dtype=BFLOAT16)
    assert ours(ours.params, XS)[0].dtype == jnp.float32


def test_every_row_has_a_test():
    FLAX.check()
