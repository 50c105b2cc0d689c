"""Each row on Keras and PyTorch in docs/peers.md: what they do, and what seqcells does instead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support import peers
from tests.support.peers import BAD, LENGTHS, XS, B, D, H, Ours, T, Table, installed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

KERAS, TORCH = Table("Keras"), Table("PyTorch")
VALID = np.arange(T) < np.asarray(LENGTHS)[:, None]


@pytest.fixture
def keras():
    return installed("keras")


@pytest.fixture
def torch():
    return installed("torch")


@KERAS.row("NaN in the padding")
def test_nan_in_the_padding_of_keras(keras):
    layer = keras.layers.GRU(H, return_sequences=True)
    layer.build(XS.shape)
    rest = [variable.value for variable in layer.non_trainable_variables]

    def keras_gru(params, xs, lengths):
        return None, layer.stateless_call(params, rest, xs, mask=jnp.asarray(VALID))[0]

    keras_gru.params = [variable.value for variable in layer.trainable_variables]
    assert peers.poisoned(keras_gru)
    assert peers.ours_is_inert()


@KERAS.row("a stack of one cell, `RNN([GRUCell(4)])`")
def test_a_stack_of_one_cell(keras):
    with pytest.raises(TypeError):
        keras.layers.RNN([keras.layers.GRUCell(H)])(np.asarray(XS))
    net = sc.Stack((sc.GRU(H),))
    assert sc.unroll(net, net.init(jax.random.key(0), D), XS, time_axis=1)[1].shape == (B, T, H)


@KERAS.row("the sum of 1000 ones in bfloat16 by a linear `SimpleRNN`")
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_a_sum_in_keras(keras, dtype):
    options = {"activation": None, "use_bias": False, "dtype": dtype}
    layer = keras.layers.SimpleRNN(1, recurrent_initializer="ones", **options)
    layer.build((1, 1000, 1))
    layer.set_weights([np.ones((1, 1)), np.ones((1, 1))])
    assert float(np.asarray(layer(np.ones((1, 1000, 1))))[0, 0]) == 256
    assert peers.our_sum() == 1000


def same_weights(one, other):
    """Run two Keras layers with the weights of the first on the padded inputs."""
    one.build(XS.shape)
    other.build(XS.shape)
    other.set_weights(one.get_weights())
    return (np.asarray(layer(np.asarray(XS), mask=VALID)) for layer in (one, other))


@KERAS.row("outputs at padding, `zero_output_for_mask=True`")
@KERAS.row("outputs at padding, `Bidirectional`")
@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
def test_outputs_at_padding(keras, both):
    def layer(unroll):
        options = {"return_sequences": True, "zero_output_for_mask": not both}
        layer = keras.layers.GRU(H, unroll=unroll, **options)
        return keras.layers.Bidirectional(layer) if both else layer

    looped, unrolled = same_weights(layer(False), layer(True))
    np.testing.assert_allclose(unrolled[VALID], looped[VALID], atol=1e-6)
    assert (looped[~VALID] == 0).all()
    assert np.abs(unrolled[2, 3:, :H]).min() > 0
    one = sc.Recurrent(sc.GRU(H), engine=sc.Scan(unroll=T))
    ours = sc.Bidirectional(one) if both else one
    params = ours.init(jax.random.key(0), D)
    ys = sc.unroll(ours, params, XS, lengths=LENGTHS, time_axis=1)[1]
    assert bool((ys[~VALID] == 0).all())
    assert float(jnp.abs(ys[VALID]).min()) > 0


@KERAS.row("`zero_output_for_mask=True`, the last output of a shorter row")
def test_the_last_output_of_a_shorter_row(keras):
    layers = (keras.layers.GRU(H, zero_output_for_mask=zero) for zero in (False, True))
    held, zeros = same_weights(*layers)
    assert (zeros[2] == 0).all()
    assert np.abs(held[2]).min() > 0
    carry, ys = peers.ours(XS, LENGTHS)
    np.testing.assert_array_equal(carry[2], ys[2, 2])


class Torch:
    """`nn.GRU`, batch first, packed where there are lengths."""

    def __init__(self, torch):
        self.torch = torch
        self.gru = torch.nn.GRU(D, H, batch_first=True)

    def __call__(self, xs, lengths=None):
        rnn, xs = self.torch.nn.utils.rnn, self.torch.tensor(np.asarray(xs))
        if lengths is None:
            return self.gru(xs)[0]
        options = {"batch_first": True, "enforce_sorted": False}
        packed = rnn.pack_padded_sequence(xs, self.torch.tensor(lengths), **options)
        return rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0]

    def loss_and_grads(self, xs, lengths=None):
        """A loss of the first three steps of row 2, and its gradients."""
        self.gru.zero_grad()
        valid = self.torch.tensor(VALID)[..., None]
        ys = self.torch.where(valid, self(xs, lengths), 0.0)
        loss = (ys[2] ** 2).sum()
        loss.backward()
        return [leaf.detach().numpy() for leaf in (loss, *(p.grad for p in self.gru.parameters()))]


@TORCH.row("a length of 0, packed")
def test_a_length_of_0_in_torch(torch):
    with pytest.raises(RuntimeError, match="greater than 0"):
        Torch(torch)(XS, [0, T, 3, 2])
    assert bool((peers.ours(XS, LENGTHS, jnp.ones((B, H)))[0][0] == 1).all())


@TORCH.row("a length above T, packed")
def test_a_length_above_t_in_torch(torch):
    with pytest.raises(RuntimeError, match="exceeds dimension size"):
        Torch(torch)(XS, [T + 1, T, 3, 2])
    with pytest.raises(ValueError, match="lengths"):
        peers.ours(XS, jnp.array([T + 1, T, 3, 2]))


@TORCH.row("NaN in the padding, packed")
def test_nan_in_the_packed_padding_of_torch(torch):
    model, lengths = Torch(torch), [1, T, 3, 2]
    bad, good = (model.loss_and_grads(xs, lengths) for xs in (BAD, XS))
    for a, b in zip(bad, good, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert peers.ours_is_inert()


@TORCH.row("NaN in the padding, the outputs masked")
def test_nan_in_the_padding_of_torch(torch):
    loss, *grads = Torch(torch).loss_and_grads(BAD)
    assert np.isfinite(loss)
    assert any(np.isnan(grad).any() for grad in grads)
    assert peers.ours_is_inert()


@TORCH.row("all lengths below T, packed")
def test_all_lengths_below_t(torch):
    lengths = [1, T - 1, 3, 2]
    assert Torch(torch)(XS, lengths).shape == (B, T - 1, H)
    assert peers.ours(XS, jnp.array(lengths))[1].shape == (B, T, H)


@TORCH.row("two batch axes")
def test_two_batch_axes_in_torch(torch):
    xs = jnp.stack([XS, XS])
    with pytest.raises(ValueError, match="2D or 3D"):
        Torch(torch)(xs)
    assert peers.ours(xs)[1].shape == (2, B, T, H)


@TORCH.row("no steps, T = 0")
def test_no_steps_in_torch(torch):
    with pytest.raises(RuntimeError, match="larger than 0"):
        Torch(torch)(XS[:, :0])
    assert bool((peers.ours(XS[:, :0], carry=jnp.ones((B, H)))[0] == 1).all())


@TORCH.row("the sum of 1000 ones in bfloat16 by a ReLU `RNN`")
@pytest.mark.parametrize("autocast", [False, True])
def test_a_sum_in_torch(torch, autocast):
    dtype = torch.float32 if autocast else torch.bfloat16
    layer = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=dtype)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for weight in layer.parameters():
            weight.fill_(1)
        assert float(layer(torch.ones(1000, 1, dtype=dtype))[1]) == 256
    assert peers.our_sum() == 1000


@TORCH.row("`vmap` over weights")
def test_vmap_over_weights_in_torch(torch):
    func = torch.func

    def many(module, xs):
        params, _ = func.stack_module_state([module, module])
        return func.vmap(lambda p: func.functional_call(module, p, xs))(params)

    assert many(torch.nn.GRUCell(D, H), torch.ones(B, D)).shape == (2, B, H)
    with pytest.raises(RuntimeError, match="Batching rule"):
        many(torch.nn.GRU(D, H), torch.ones(T, B, D))
    ours = Ours()
    params = jax.tree.map(lambda a: jnp.stack([a, a]), ours.params)
    assert jax.vmap(lambda p: ours(p, XS)[1])(params).shape == (2, B, T, H)


@pytest.mark.parametrize("table", [KERAS, TORCH], ids=["keras", "torch"])
def test_every_row_has_a_test(table):
    table.check()
