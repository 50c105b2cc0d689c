"""Weights from and to other frameworks: against what the real ones computed, and both ways."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import interop
from tests.helpers import assert_same_bits, dtypes

D, H = 3, 4
GOLDENS = Path(__file__).parent / "goldens"


def deep(cell, layers=2):
    return sc.Stack((sc.Bidirectional(cell),) * layers)


def _torch():
    cells = {
        "gru": (sc.GRU(H), sc.GRU(H, bias="none")),
        "lstm": (sc.LSTM(H), sc.LSTM(H, bias=False)),
        "rnn": (sc.RNN(H), sc.RNN(H, bias=False)),
    }
    cases = {"rnn-relu": sc.RNN(H, "relu")}
    for name, (cell, bare) in cells.items():
        cases |= {name: cell, f"{name}-nobias": bare, f"{name}-cell": cell}
        cases |= {f"{name}-deep": deep(cell), f"{name}-deep-nobias": deep(bare)}
        cases |= {f"{name}-deep-lengths": deep(cell)}
    return cases


GRU, LSTM, RNN, RELU = sc.GRU(H), sc.LSTM(H), sc.RNN(H), sc.RNN(H, "relu")
BEFORE = sc.GRU(H, "before", "single")
LAYERS = {
    "torch": _torch(),
    "keras": {
        "gru": GRU,
        "gru-before": BEFORE,
        "gru-nobias": sc.GRU(H, bias="none"),
        "gru-before-nobias": sc.GRU(H, "before", "none"),
        "gru-cell": GRU,
        "gru-lengths": sc.Recurrent(GRU),
        "gru-both-lengths": sc.Bidirectional(GRU),
        "gru-before-both-sum": sc.Bidirectional(BEFORE, merge="sum"),
        "lstm": sc.Recurrent(LSTM),
        "lstm-nobias": sc.LSTM(H, bias=False),
        "lstm-both-ave": sc.Bidirectional(LSTM, merge="mean"),
        "rnn": RNN,
        "rnn-relu-nobias": sc.RNN(H, "relu", bias=False),
        "rnn-both-mul": sc.Bidirectional(RNN, merge="mul"),
        "deep": sc.Stack((GRU, sc.Bidirectional(GRU), sc.Recurrent(LSTM))),
    },
    "linen": {
        "gru": GRU,
        "gru-cell": GRU,
        "gru-lengths": sc.Recurrent(GRU),
        "gru-reverse": sc.Recurrent(GRU, reverse=True),
        "gru-both-lengths": sc.Bidirectional(GRU),
        "mgu": GRU,
        "lstm": LSTM,
        "lstm-optimized": sc.Recurrent(LSTM),
        "rnn": RNN,
        "rnn-relu": RELU,
        "deep": sc.Stack((LSTM, sc.Bidirectional(GRU))),
    },
    "nnx": {
        "gru": sc.GRU(H, bias="single"),
        "gru-lengths": sc.Recurrent(GRU),
        "gru-both": sc.Bidirectional(GRU),
        "lstm": LSTM,
        "lstm-optimized": sc.Recurrent(LSTM),
        "rnn": RNN,
        "rnn-relu": RELU,
        "deep": sc.Stack((LSTM, sc.Bidirectional(GRU))),
    },
    "haiku": {
        "gru": BEFORE,
        "gru-reverse": sc.Recurrent(BEFORE, reverse=True),
        "lstm": LSTM,
        "rnn": RELU,
        "rnn-one-bias": RELU,
        "deep": sc.Stack((LSTM, BEFORE, LSTM)),
    },
    "equinox": {
        "gru": GRU,
        "gru-nobias": sc.GRU(H, bias="none"),
        "lstm": LSTM,
        "lstm-nobias": sc.LSTM(H, bias=False),
        "deep": sc.Stack((GRU, LSTM, sc.Recurrent(GRU))),
    },
    "onnx": {
        "gru-after": GRU,
        "gru-before": sc.GRU(H, "before"),
        "gru-after-exact": GRU,
        "gru-before-exact": sc.GRU(H, "before"),
        "gru-before-nobias": sc.GRU(H, "before", "none"),
        "gru-after-both-lengths": sc.Bidirectional(GRU),
        "gru-reverse": sc.Recurrent(sc.GRU(H, "before"), reverse=True),
        "lstm": LSTM,
        "lstm-exact": LSTM,
        "lstm-peepholes": sc.LSTM(H, peepholes=True),
        "lstm-peepholes-exact": sc.LSTM(H, peepholes=True),
        "lstm-peepholes-both": sc.Bidirectional(sc.LSTM(H, peepholes=True)),
        "lstm-nobias": sc.LSTM(H, bias=False),
        "rnn": sc.Recurrent(RNN),
        "rnn-exact": RNN,
        "rnn-relu-both": sc.Bidirectional(RELU),
    },
}
SINGLE = {("onnx", case) for case in LAYERS["onnx"] if not case.endswith("exact")}  # float32
ROWS = [(name, case) for name, cases in LAYERS.items() for case in cases]
over_goldens = pytest.mark.parametrize(("name", "case"), ROWS, ids=[f"{a}-{b}" for a, b in ROWS])


@functools.cache
def goldens(name):
    with np.load(GOLDENS / f"{name}.npz") as file:
        return dict(file)


def parts(name, case, what):
    start = f"{case}|{what}|"
    return {k[len(start) :]: a for k, a in goldens(name).items() if k.startswith(start)}


def arrays_of(name, case):
    return parts(name, case, "w")


def flat(tree, prefix=""):
    out = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        out |= flat(value, f"{name}/") if isinstance(value, dict) else {name: value}
    return out


def run(layer, params, xs, lengths=None):
    layer = sc.Recurrent(layer) if isinstance(layer, sc.Cell) else layer
    return jax.jit(layer.apply)(params, xs, lengths=lengths)


def largest_error(name, case):
    """The largest difference between ours and the framework's outputs and final carries."""
    file, layer = goldens(name), LAYERS[name][case]
    params = getattr(interop, name).load(arrays_of(name, case), layer)
    carry, ys = run(layer, params, file["xs"], file.get(f"{case}|lengths"))
    carries = list(parts(name, case, "carry").values())
    got = [ys, *jax.tree.leaves(carry)] if carries else [ys]  # Sequential gives no carries
    if file[f"{case}|ys"].shape[0] == 1:  # Keras's last output alone
        got[0] = ys[-1:]
    assert [a.shape for a in got] == [a.shape for a in (file[f"{case}|ys"], *carries)]
    pairs = zip(got, (file[f"{case}|ys"], *carries), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - b))) for a, b in pairs)


@over_goldens
def test_a_real_layer_computes_the_same(name, case, x64, record_property):
    error = largest_error(name, case)
    record_property("error", error)
    assert error < (1e-6 if (name, case) in SINGLE else 1e-12)


def test_every_golden_is_read_and_its_versions_are_known():
    for name, cases in LAYERS.items():
        assert {key.split("|")[0] for key in goldens(name)} - {"xs"} == set(cases)
    assert {path.stem for path in GOLDENS.glob("*.npz")} == set(LAYERS)
    assert json.loads((GOLDENS / "versions.json").read_text())
    assert sum(path.stat().st_size for path in GOLDENS.iterdir()) < 300_000


def summed(name, case, arrays):
    """Two biases that we hold as one come back as their sum, and zeros."""
    out = dict(arrays)
    if case.startswith(("lstm", "rnn")):
        if name == "torch":
            pairs = [(key, key.replace("bias_ih", "bias_hh")) for key in arrays if "bias_ih" in key]
        elif name == "haiku":
            pairs = [
                (key, key.replace("linear", "linear_1")) for key in arrays if "linear/b" in key
            ]
        else:
            pairs = []
        for key, other in pairs:
            if other in arrays:
                out[key], out[other] = arrays[key] + arrays[other], np.zeros_like(arrays[other])
        if name == "onnx" and "B" in arrays:
            first, second = np.split(arrays["B"], 2, axis=-1)
            out["B"] = np.concatenate([first + second, np.zeros_like(second)], axis=-1)
    return out


@over_goldens
def test_arrays_come_back_as_they_were(name, case, x64):
    module, layer, arrays = getattr(interop, name), LAYERS[name][case], arrays_of(name, case)
    back = flat(module.dump(layer, module.load(arrays, layer), like=arrays))
    expected = summed(name, case, arrays)
    assert list(back) == list(expected)
    for key, array in expected.items():
        assert back[key].dtype == array.dtype
        np.testing.assert_array_equal(back[key], array)


@over_goldens
def test_params_come_back_to_the_bit(name, case, x64):
    module, layer = getattr(interop, name), LAYERS[name][case]
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        arrays = {key: a.astype(dtype) for key, a in arrays_of(name, case).items()}
        params = module.load(arrays, layer)
        assert dtypes(params) == {jnp.dtype(dtype)}
        assert_same_bits(module.load(module.dump(layer, params), layer), params)
