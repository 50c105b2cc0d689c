"""Real frameworks run the weights that `dump` returns, where they are installed; Flax always is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import seqcells as sc
from seqcells import interop
from tests.support.interop import BEFORE, GRU, LSTM, RELU, RNN, SINGLE_BIAS, D, H, deep, drawn
from tests.support.peers import installed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

T, B = 5, 2
LENGTHS = np.array([5, 3])
XS = np.random.default_rng(1).normal(size=(T, B, D))
BATCH_FIRST = XS.swapaxes(0, 1)
F64 = {"param_dtype": jnp.float64, "dtype": jnp.float64}


def check(layer, params, ys, lengths=None, tol=1e-12):
    """Compare a framework's outputs [T, B, H] with ours."""
    _, expected = jax.jit(sc.unroll)(layer, params, XS, lengths=lengths)
    valid = np.arange(T)[:, None, None] < (np.full(B, T) if lengths is None else lengths)[:, None]
    np.testing.assert_allclose(np.asarray(ys) * valid, expected, tol, tol)


def of_linen(cell, **options):
    return linen.RNN(cell(H, **F64), **options)


BACK = of_linen(linen.LSTMCell, reverse=True, keep_order=True)
BOTH = linen.Bidirectional(of_linen(linen.GRUCell), of_linen(linen.GRUCell))
DEEP = linen.Sequential([of_linen(linen.LSTMCell), of_linen(linen.GRUCell)])
LINEN = {
    "gru": (sc.Recurrent(SINGLE_BIAS), of_linen(linen.GRUCell)),
    "lstm": (sc.Recurrent(LSTM), of_linen(linen.LSTMCell)),
    "lstm-optimized": (sc.Recurrent(LSTM), of_linen(linen.OptimizedLSTMCell)),
    "rnn": (sc.Recurrent(RNN), of_linen(linen.SimpleCell)),
    "reverse": (sc.Recurrent(LSTM, reverse=True), BACK),
    "both": (sc.Bidirectional(SINGLE_BIAS), BOTH),
    "deep": (sc.Stack((LSTM, SINGLE_BIAS)), DEEP),
}


@pytest.mark.parametrize("name", LINEN)
def test_flax_linen(name):
    layer, module = LINEN[name]
    params = drawn(layer, jnp.float64)
    variables = interop.linen.dump(layer, params)
    lengths = None if name == "deep" else LENGTHS
    more = {} if lengths is None else {"seq_lengths": lengths}
    check(layer, params, module.apply(variables, BATCH_FIRST, **more).swapaxes(0, 1), lengths)


def rnn(cell, size=D):
    rngs = nnx.Rngs(0)
    return nnx.RNN(cell(size, H, rngs=rngs, **F64), rngs=rngs)


NNX = {
    "gru": (sc.Recurrent(SINGLE_BIAS), lambda: rnn(nnx.GRUCell)),
    "lstm": (sc.Recurrent(LSTM), lambda: rnn(nnx.LSTMCell)),
    "lstm-optimized": (sc.Recurrent(LSTM), lambda: rnn(nnx.OptimizedLSTMCell)),
    "rnn": (sc.Recurrent(RNN), lambda: rnn(nnx.SimpleCell)),
    "both": (
        sc.Bidirectional(SINGLE_BIAS),
        lambda: nnx.Bidirectional(rnn(nnx.GRUCell), rnn(nnx.GRUCell)),
    ),
    "deep": (
        sc.Stack((LSTM, sc.Recurrent(SINGLE_BIAS))),
        lambda: nnx.Sequential(rnn(nnx.LSTMCell), rnn(nnx.GRUCell, H)),
    ),
}


@pytest.mark.parametrize("name", NNX)
def test_flax_nnx(name):
    layer, make = NNX[name]
    params, module = drawn(layer, jnp.float64), make()
    state = nnx.state(module, nnx.Param)
    arrays = interop.nnx.dump(layer, params, like=nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, arrays)
    nnx.update(module, state)
    check(layer, params, module(jnp.asarray(BATCH_FIRST)).swapaxes(0, 1))


def test_the_statements_of_docs_peers_about_flax():
    cell = nnx.GRUCell(D, H, rngs=nnx.Rngs(0))
    assert "b_{hn}" in nnx.GRUCell.__doc__
    assert cell.dense_h.bias is None or cell.dense_h.bias.get_value() is None
    simple = nnx.RNN(nnx.SimpleCell(D, H, rngs=nnx.Rngs(0), param_dtype=jnp.float64))
    with pytest.raises(TypeError, match="carry"):
        simple(jnp.asarray(BATCH_FIRST), initial_carry=jnp.zeros((B, H)))
    module = linen.GRUCell(H)
    params = module.init(jax.random.key(0), jnp.zeros((B, H)), XS[0])["params"]
    assert [name for name in params if name[0] == "h" and "bias" in params[name]] == ["hn"]


TORCH = {
    "gru": (sc.Recurrent(GRU), "GRU", {}),
    "gru-nobias": (sc.Recurrent(sc.GRU(H, bias="none")), "GRU", {"bias": False}),
    "lstm-deep": (deep(LSTM), "LSTM", {"num_layers": 2, "bidirectional": True}),
    "rnn-relu": (sc.Recurrent(RELU), "RNN", {"nonlinearity": "relu"}),
    "lstm-proj": (sc.LSTM(H, proj_size=1), "LSTM", {"proj_size": 1}),
    "lstm-proj-deep": (
        deep(sc.LSTM(H, proj_size=3, bias="none")),
        "LSTM",
        {"num_layers": 2, "bidirectional": True, "proj_size": 3, "bias": False},
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    torch = installed("torch")
    layer, kind, options = TORCH[name]
    params = drawn(layer, jnp.float64)
    module = getattr(torch.nn, kind)(D, H, dtype=torch.float64, **options)
    arrays = interop.torch.dump(layer, params)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    with torch.no_grad():
        check(layer, params, module(torch.from_numpy(XS))[0])
    back = interop.torch.load(module.state_dict(), layer)  # tensors work too
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back, params))


ALL = {"return_sequences": True}
KERAS = {
    "gru": (sc.Recurrent(GRU), lambda k: k.GRU(H, **ALL)),
    "gru-before": (sc.Recurrent(BEFORE), lambda k: k.GRU(H, reset_after=False, **ALL)),
    "lstm": (sc.Bidirectional(LSTM), lambda k: k.Bidirectional(k.LSTM(H, **ALL))),
    "rnn": (sc.Recurrent(RNN), lambda k: k.SimpleRNN(H, **ALL)),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras(name):
    keras = installed("keras")
    layer, make = KERAS[name]
    with jax.enable_x64(False):  # Keras's tanh has float32 alone
        params = drawn(layer)
        module = make(keras.layers)
        module(BATCH_FIRST.astype("f"))
        module.set_weights(list(interop.keras.dump(layer, params).values()))
        ys = np.asarray(module(BATCH_FIRST.astype("f"))).swapaxes(0, 1)
        wide = jax.tree.map(lambda a: np.asarray(a, "d"), params)
    check(layer, wide, ys, tol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_h5_file_of_keras_keeps_the_order_of_layers(tmp_path):
    keras, h5py = installed("keras"), installed("h5py")
    layers = keras.layers
    xs, path = BATCH_FIRST.astype("f"), tmp_path / "model.h5"
    names = ("encoder", "decoder")  # in another order than that of the alphabet
    parts = [layers.GRU(D, name=name, **ALL) for name in names]
    model = keras.Sequential([keras.Input((T, D)), *parts])
    model.save(path)
    net = sc.Stack((sc.GRU(D), sc.GRU(D)))
    with h5py.File(path) as file, jax.enable_x64(False):
        params = interop.keras.load(file, net)
        _, ys = sc.unroll(net, params, xs, time_axis=1)
    np.testing.assert_allclose(ys, np.asarray(model(xs)), atol=1e-6)


HAIKU = {
    "gru": (sc.Recurrent(BEFORE), lambda hk: hk.GRU(H)),
    "rnn": (sc.Recurrent(RELU), lambda hk: hk.VanillaRNN(H)),
    "deep": (sc.Stack((LSTM, BEFORE)), lambda hk: hk.DeepRNN([hk.LSTM(H), hk.GRU(H)])),
}


def test_haiku_lists_modules_in_the_order_in_which_they_run():
    hk = installed("haiku")

    def net(xs):
        second, first = hk.GRU(D), hk.GRU(D, name="mine")  # made in another order
        core = hk.DeepRNN([first, second])
        return hk.dynamic_unroll(core, xs, core.initial_state(B))[0]

    run = hk.without_apply_rng(hk.transform(net))
    arrays = run.init(jax.random.key(0), XS)
    layer = sc.Stack((sc.GRU(D, reset_after=False, bias="single"),) * 2)
    check(layer, interop.haiku.load(arrays, layer), run.apply(arrays, XS))


@pytest.mark.parametrize("name", HAIKU)
def test_haiku(name):
    hk = installed("haiku")
    layer, make = HAIKU[name]

    def net(xs):
        core = make(hk)
        return hk.dynamic_unroll(core, xs, core.initial_state(B))[0]

    params = drawn(layer, jnp.float64)
    arrays = interop.haiku.dump(layer, params)
    check(layer, params, hk.without_apply_rng(hk.transform(net)).apply(arrays, XS))


@pytest.mark.parametrize("layer", [SINGLE_BIAS, LSTM], ids=["gru", "lstm"])
def test_equinox(layer):
    eqx = installed("equinox")
    cell = getattr(eqx.nn, f"{type(layer).__name__}Cell")(D, H, key=jax.random.key(0))
    params = drawn(layer, jnp.float64)
    arrays = interop.equinox.dump(layer, params)
    names = list(arrays)
    cell = eqx.tree_at(lambda c: [getattr(c, n) for n in names], cell, list(arrays.values()))
    of_module, of_arrays = (interop.equinox.load(given, layer) for given in (cell, arrays))
    assert jax.tree.all(jax.tree.map(np.array_equal, of_module, of_arrays))
    carry = (np.zeros((B, H)),) * 2 if layer is LSTM else np.zeros((B, H))
    ys = []
    for x in XS:
        carry = jax.vmap(cell)(x, carry)
        ys.append(carry[0] if layer is LSTM else carry)
    check(layer, params, np.stack(ys))


def test_flashrnn():
    torch, flashrnn = installed("torch"), installed("flashrnn")
    cell = sc.SLSTM(H, heads=2)
    params = drawn(cell, jnp.float64)
    w, r, b = (torch.from_numpy(a) for a in interop.flashrnn.dump(cell, params).values())
    wx = torch.einsum("tbj,ghdj->btghd", torch.from_numpy(XS), w)
    options = {"function": "slstm", "backend": "vanilla", "dtype": "float64"}
    states, _ = flashrnn.flashrnn(wx, r, b, **options)
    check(cell, params, states[0].flatten(2).swapaxes(0, 1))


ONNX = {
    "gru": sc.Recurrent(GRU),
    "gru-before": sc.Recurrent(sc.GRU(H, reset_after=False)),
    "lstm": sc.Bidirectional(sc.LSTM(H, peepholes=True)),
    "rnn": sc.Recurrent(RELU, reverse=True),
}


@pytest.mark.parametrize("name", ONNX)
def test_onnx(name):
    onnx, runtime = installed("onnx"), installed("onnxruntime")
    layer, make = ONNX[name], onnx.helper.make_tensor_value_info
    params = drawn(layer, jnp.float32)
    feed = {"X": XS.astype("f")} | interop.onnx.dump(layer, params)
    (node,) = interop.onnx.attributes(layer)
    inputs = ["X", "W", "R", "B", *(["", "", "", "P"] if "P" in feed else [])]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(node.pop("op_type"), inputs, ["Y"], **node)],
        "one",
        [make(name, onnx.TensorProto.FLOAT, a.shape) for name, a in feed.items()],
        [make("Y", onnx.TensorProto.FLOAT, None)],
    )
    opset = [onnx.helper.make_opsetid("", 14)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    (ys,) = runtime.InferenceSession(model.SerializeToString()).run(["Y"], feed)
    ys = ys.swapaxes(1, 2).reshape(T, B, -1)  # [T, ways, B, H]
    check(layer, jax.tree.map(lambda a: a.astype("d"), params), ys, tol=1e-5)
