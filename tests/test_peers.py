"""Each row of docs/peers.md: what Flax does, and what seqcells does instead."""

import re
import warnings
from pathlib import Path

import flax.errors
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqcells as sc

B, T, D, H = 4, 6, 3, 4
XS = jax.random.normal(jax.random.key(0), (B, T, D))
LENGTHS = jnp.array([0, T, 3, 2])


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


class Ours:
    """`seqcells.unroll`, batch first."""

    def __init__(self, param_dtype=jnp.float32):
        self.cell = sc.GRU(H, param_dtype=param_dtype)
        self.params = self.cell.init(jax.random.key(0), D)

    def __call__(self, params, xs, lengths=None):
        return sc.unroll(self.cell, params, xs, lengths=lengths, time_axis=xs.ndim - 2)


PEERS = pytest.mark.parametrize("peer", [Nnx, Linen])


def poisoned(model):
    """Whether NaN in the padding reaches a gradient of what stands before it."""
    xs = XS.at[2, 3:].set(jnp.nan)

    def loss(params):
        _, ys = model(params, xs, LENGTHS)
        return jnp.sum(jnp.square(ys[2, :3]))

    grads = jax.grad(loss)(model.params)
    return any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(grads))


def kept_initial_carry(model):
    carry, _ = model(model.params, XS, LENGTHS)
    return bool((carry[0] == 0).all())


@PEERS
@pytest.mark.parametrize(("law", "ours"), [(poisoned, False), (kept_initial_carry, True)])
def test_padding(peer, law, ours):
    assert law(peer()) is not ours
    assert law(Ours()) is ours


@PEERS
def test_lengths_of_two_batch_axes(peer):
    xs, lengths = jnp.stack([XS, XS]), jnp.stack([LENGTHS, LENGTHS])
    model = peer()
    with pytest.raises(ValueError, match="shape"):
        model(model.params, xs, lengths)
    ours = Ours()
    np.testing.assert_allclose(
        ours(ours.params, xs, lengths)[1][1], ours(ours.params, XS, LENGTHS)[1], rtol=1e-6
    )


@PEERS
def test_a_length_above_t(peer):
    model, ours = peer(), Ours()
    model(model.params, XS, LENGTHS + T)
    with pytest.raises(ValueError, match="lengths"):
        ours(ours.params, XS, LENGTHS + T)


@PEERS
def test_bfloat16_parameters(peer):
    with pytest.raises((NotImplementedError, TypeError), match="bfloat16"):
        peer(param_dtype=jnp.bfloat16)
    ours = Ours(param_dtype=jnp.bfloat16)
    carry, ys = ours(ours.params, XS.astype(jnp.bfloat16))
    assert (carry.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


def test_a_closure_over_the_module_is_jitted():
    peer = Nnx().module
    with pytest.raises(flax.errors.TraceContextError):
        jax.jit(lambda xs: peer(xs))(XS)
    rnn = sc.nnx.RNN(sc.GRU(H), D, rngs=nnx.Rngs(0))
    assert jax.jit(lambda xs: rnn(xs))(XS)[1].shape == (B, T, H)


def test_spectral_radius_of_a_gate():
    def radius(matrix):
        return float(np.abs(np.linalg.eigvals(np.asarray(matrix))).max())

    fused = nnx.GRUCell(D, 64, rngs=nnx.Rngs(0)).dense_h.kernel[...]
    assert radius(fused[:, :64]) == pytest.approx(0.58, abs=0.03)
    linen = flax.linen.GRUCell(64).init(jax.random.key(0), jnp.ones((1, 64)), jnp.ones((1, D)))
    ours = sc.GRU(64).init(jax.random.key(0), D).w_hh[:, :64]
    for whole in (linen["params"]["hr"]["kernel"], ours):
        assert radius(whole) == pytest.approx(1, abs=1e-5)


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


@pytest.fixture
def keras(monkeypatch):
    """Keras on JAX, where it is installed."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("keras")


@pytest.mark.filterwarnings("ignore")
def test_padding_in_keras(keras):
    mask = np.arange(T) < np.asarray(LENGTHS)[:, None]
    layer = keras.layers.GRU(H, return_sequences=True)
    layer.build(XS.shape)
    weights = [variable.value for variable in layer.trainable_variables]
    rest = [variable.value for variable in layer.non_trainable_variables]

    def keras_gru(params, xs, lengths):
        return None, layer.stateless_call(params, rest, xs, mask=jnp.asarray(mask))[0]

    keras_gru.params = weights
    assert poisoned(keras_gru)
    assert not poisoned(Ours())


@pytest.mark.filterwarnings("ignore")
def test_a_stack_of_one_cell(keras):
    with pytest.raises(TypeError):
        keras.layers.RNN([keras.layers.GRUCell(H)])(np.asarray(XS))
    net = sc.Stack((sc.GRU(H),))
    assert net.apply(net.init(jax.random.key(0), D), XS, time_axis=1)[1].shape == (B, T, H)


@pytest.mark.filterwarnings("ignore")
def test_a_sum_of_1000_ones_in_bfloat16(keras):
    options = {"activation": None, "use_bias": False, "dtype": "bfloat16"}
    layer = keras.layers.SimpleRNN(1, recurrent_initializer="ones", **options)
    layer.build((1, 1000, 1))
    layer.set_weights([np.ones((1, 1)), np.ones((1, 1))])
    assert float(np.asarray(layer(np.ones((1, 1000, 1))))[0, 0]) == 256
    params = sc.RNNParams(jnp.ones((1, 1)), jnp.ones((1, 1)), None)
    ones = jnp.ones((1000, 1, 1), jnp.bfloat16)
    assert float(sc.unroll(sc.RNN(1, "identity", False), params, ones)[0][0, 0]) == 1000


def test_the_page_names_the_versions_and_a_row_a_test():
    page = (Path(__file__).parents[1] / "docs" / "peers.md").read_text()
    assert len(re.findall(r"^\| (?!case|---)", page, re.M)) == 8 + 3
    assert "0.12.8" in page
