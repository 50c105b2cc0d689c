"""A whole net as an ONNX file: ONNX Runtime computes what `unroll` does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc

T, B, D = 7, 3, 4
LENGTHS = np.array([7, 3, 1], "int32")
DEEP = (sc.Norm("layer"), sc.Bidirectional(sc.LSTM(4)), sc.Dropout(0.1), sc.Residual(sc.GRU(8)))
NETS = {
    "gru": (sc.GRU(5), D),
    "gru, before": (sc.GRU(5, reset_after=False, bias="none"), D),
    "peepholes": (sc.LSTM(5, peepholes=True), D),
    "reverse": (sc.Stack((sc.Dense(6, "relu"), sc.Recurrent(sc.RNN(6), reverse=True))), D),
    "tokens": (sc.Stack((sc.Embed(9, 6), *DEEP, sc.Norm("rms"), sc.Dense(3, "tanh"))), ()),
    "stack in a stack": (sc.Stack((sc.Stack((sc.GRU(3), sc.RNN(2))), sc.Dense(2, bias="none"))), D),
}


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("name", NETS)
def test_a_runtime_computes_what_unroll_does(name, lengths):
    runtime = pytest.importorskip("onnxruntime")
    (net, size), rng = NETS[name], np.random.default_rng(0)
    params = net.init(jax.random.key(0), size)
    file = sc.interop.onnx.model(net, params, size, lengths=lengths)
    xs = rng.integers(0, 9, (T, B)) if size == () else rng.normal(size=(T, B, D)).astype("f")
    flags = {"lengths": LENGTHS} if lengths else {}
    if lengths:  # padding may hold anything
        xs[4:, 1] = 1000 if size == () else np.nan
    session = runtime.InferenceSession(file.SerializeToString())
    ys, *carries = session.run(None, {"xs": xs} | flags)
    carry, expected = sc.unroll(net, params, jnp.asarray(xs), **flags)
    np.testing.assert_allclose(ys, expected, atol=2e-6)
    ours = [np.asarray(a).reshape(-1, B, a.shape[-1]) for a in jax.tree.leaves(carry)]
    assert sum(a.size for a in ours) == sum(a.size for a in carries)
    if len(ours) == 1:
        np.testing.assert_allclose(carries[0], ours[0], atol=2e-6)


def test_sizes_are_open_and_inputs_are_named():
    pytest.importorskip("onnx")
    net = sc.GRU(3)
    file = sc.interop.onnx.model(net, net.init(jax.random.key(0), 2), 2, lengths=True)
    (xs, lengths), (ys, carry) = file.graph.input, file.graph.output
    assert [one.name for one in (xs, lengths, ys, carry)] == ["xs", "lengths", "ys", "carry.0"]
    shown = [d.dim_param or d.dim_value for d in xs.type.tensor_type.shape.dim]
    assert shown == ["T", "B", 2]


REFUSED = {
    "cell": (sc.Stack((sc.MGU(3),)), "expected a cell that onnx has"),
    "noise": (sc.Zoneout(sc.GRU(3), 0.1), "expected a net of cells that ONNX has"),
    "function": (
        sc.Stack((sc.GRU(3), sc.Pointwise(None, lambda params, x: jnp.tanh(x)))),
        "expected a net of cells",
    ),
    "merge": (sc.Bidirectional(sc.GRU(3), merge="sum"), "merge"),
    "dtype": (sc.GRU(3, param_dtype="bfloat16"), "params: expected float32, got bfloat16"),
    "skip": (sc.Stack((sc.GRU(3), sc.GRU(3)), skip=True), "skip"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_lacks_is_refused_by_name(name):
    pytest.importorskip("onnx")
    net, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        sc.interop.onnx.model(net, net.init(jax.random.key(0), D), D)
