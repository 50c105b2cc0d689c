"""Weights from and to other frameworks, compared with what the real ones computed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import interop
from tests.support import interop as shared
from tests.support.interop import BEFORE, GOLDENS, GRU, LAYERS, LSTM, RELU, RNN, H, deep, drawn
from tests.support.laws import assert_same_bits, dtypes

SINGLE = {("onnx", case) for case in LAYERS["onnx"] if not case.endswith("exact")}  # float32
ROWS = [(name, case) for name, cases in LAYERS.items() for case in cases]
BACK = [row for row in ROWS if row[0] != "speechbrain"]  # a fold has no way back


def over(rows):
    return pytest.mark.parametrize(("name", "case"), rows, ids=[f"{a}-{b}" for a, b in rows])


def largest_error(name, case):
    """Return the largest difference between our outputs and final carries and the framework's."""
    file, layer = shared.goldens(name), LAYERS[name][case]
    params = getattr(interop, name).load(shared.arrays_of(name, case), layer)
    lengths = file.get(f"{case}|lengths")
    xs = file.get(f"{case}|xs", file["xs"])
    carry, ys = jax.jit(sc.unroll)(layer, params, xs, lengths=lengths)
    carries = list(shared.parts(name, case, "carry").values())
    got = [ys, *jax.tree.leaves(carry)] if carries else [ys]  # Sequential gives no carries
    if file[f"{case}|ys"].shape[0] == 1:  # Keras's last output alone
        got[0] = ys[-1:]
    assert [a.shape for a in got] == [a.shape for a in (file[f"{case}|ys"], *carries)]
    pairs = zip(got, (file[f"{case}|ys"], *carries), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - b))) for a, b in pairs)


@over(ROWS)
def test_a_real_layer_computes_the_same(name, case, x64, record_property):
    error = largest_error(name, case)
    record_property("error", error)
    assert error < (1e-6 if (name, case) in SINGLE else 1e-12)


GRADED = [(name, case) for name, case in ROWS if case.startswith("conv")]


@pytest.mark.parametrize(("name", "case"), GRADED, ids=[f"{a}-{b}" for a, b in GRADED])
def test_a_gradient_is_that_of_the_real_layer(name, case, x64):
    """By the framework's own arrays, through `load`."""
    file, layer = shared.goldens(name), LAYERS[name][case]

    def loss(values):  # a dict would be sorted by name
        params = getattr(interop, name).load(dict(zip(arrays, values, strict=True)), layer)
        return jnp.sum(jnp.square(sc.unroll(layer, params, file[f"{case}|xs"])[1]))

    arrays, expected = shared.arrays_of(name, case), shared.parts(name, case, "grad")
    gradient = jax.jit(jax.grad(loss))(list(map(jnp.asarray, arrays.values())))
    for key, array in zip(arrays, gradient, strict=True):
        np.testing.assert_allclose(array, expected[key], 1e-12, 1e-12, err_msg=key)


def test_every_golden_is_read_and_its_versions_are_known():
    for name, cases in LAYERS.items():
        assert {key.split("|")[0] for key in shared.goldens(name)} - {"xs"} == set(cases)
    files = {path.stem: path.stat().st_size for path in GOLDENS.iterdir()}
    for other in ("cells", "resets", "models", "online"):  # the tests of these read them
        del files[other]
    assert set(files) - {"versions", "__init__", "__pycache__"} == set(LAYERS)
    assert json.loads((GOLDENS / "versions.json").read_text("utf-8"))
    assert sum(files.values()) < 320_000


SECOND = {
    "torch": ("bias_ih", "bias_hh"),
    "haiku": ("linear/b", "linear_1/b"),
    "linen": ("ih/bias", "hh/bias"),
}


def summed(name, case, arrays):
    """Return what `dump` gives for arrays: two biases that are one here are their sum and zeros."""
    out = dict(arrays)
    if case.startswith("gru"):
        return out
    one, two = SECOND.get(name, ("no such", ""))
    for key in arrays:
        other = key.replace(one, two)
        if one in key and other in arrays:
            out[key], out[other] = arrays[key] + arrays[other], np.zeros_like(arrays[other])
    if name == "onnx" and "B" in arrays:
        first, second = np.split(arrays["B"], 2, axis=-1)
        out["B"] = np.concatenate([first + second, np.zeros_like(second)], axis=-1)
    return out


@over(BACK)
def test_arrays_come_back_as_they_were(name, case, x64):
    module, layer, arrays = getattr(interop, name), LAYERS[name][case], shared.arrays_of(name, case)
    like = {} if name == "flashrnn" else {"like": arrays}  # flashrnn has one set of names
    back = shared.flat(module.dump(layer, module.load(arrays, layer), **like))
    expected = summed(name, case, arrays)
    assert list(back) == list(expected)
    for key, array in expected.items():
        assert back[key].dtype == array.dtype
        np.testing.assert_array_equal(back[key], array)


@pytest.mark.parametrize("case", ["gru-both-lengths", "conv-lstm"])
def test_names_are_those_of_keras_in_a_new_process(case, x64):
    layer, arrays = LAYERS["keras"][case], shared.arrays_of("keras", case)
    layer = sc.Recurrent(layer) if isinstance(layer, sc.Cell) else layer
    dumped = interop.keras.dump(layer, interop.keras.load(arrays, layer))
    assert list(dumped) == list(arrays)


@over(BACK)
def test_params_come_back_to_the_bit(name, case, x64):
    module, layer = getattr(interop, name), LAYERS[name][case]
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        arrays = {key: a.astype(dtype) for key, a in shared.arrays_of(name, case).items()}
        params = module.load(arrays, layer)
        assert dtypes(params) == {jnp.dtype(dtype)}
        assert_same_bits(module.load(module.dump(layer, params), layer), params)


PROJECTED = sc.LSTM(H, proj_size=2)
# Initialisers and dtypes are not settings of a framework, so these are equal cells to PyTorch.
DRAWN_OTHERWISE = sc.GRU(H, w_hh_init=sc.initializers.Normal(), param_dtype=jnp.bfloat16)
FULL = [
    ("torch", sc.Stack((GRU, DRAWN_OTHERWISE))),
    *(("torch", layer) for layer in (GRU, LSTM, RELU, deep(GRU), sc.Recurrent(LSTM))),
    *(("torch", layer) for layer in (PROJECTED, sc.Recurrent(PROJECTED), deep(PROJECTED))),
    *(("keras", layer) for layer in (GRU, BEFORE, LSTM, deep(RNN, 3), deep(shared.CONV))),
    *(("keras", sc.Stack((sc.RNN(H, "identity"),) * 12)),),
    *(("linen", layer) for layer in (shared.SINGLE_BIAS, LSTM, deep(RNN))),
    *(("nnx", layer) for layer in (shared.SINGLE_BIAS, LSTM, deep(RNN))),
    *(("haiku", layer) for layer in (BEFORE, RELU, sc.Stack((RELU, BEFORE, RELU)))),
    *(("equinox", layer) for layer in (shared.SINGLE_BIAS, LSTM, deep(LSTM))),
    *(("onnx", layer) for layer in (GRU, sc.GRU(H, reset_after=False), deep(GRU))),
    *(("onnx", layer) for layer in (sc.LSTM(H, peepholes=True), sc.Recurrent(RNN, reverse=True))),
    *(("flashrnn", sc.SLSTM(H, heads=4, bias=bias)) for bias in ("single", "none")),
]


@pytest.mark.parametrize(("name", "layer"), FULL)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_any_params_come_back_to_the_bit(name, layer, dtype):
    module, params = getattr(interop, name), drawn(layer, dtype)
    arrays = module.dump(layer, params)
    assert_same_bits(module.load(arrays, layer), params)
    assert {a.dtype for a in shared.flat(arrays).values()} == {jnp.dtype(dtype)}
    assert not any(np.signbit(a[a == 0]).any() for a in shared.flat(arrays).values())


def test_haiku_adds_one_to_the_forget_gate_which_rounds():
    params = drawn(LSTM)
    back = interop.haiku.load(interop.haiku.dump(LSTM, params), LSTM)
    assert_same_bits(back._replace(b=None), params._replace(b=None))
    np.testing.assert_allclose(back.b, params.b, atol=2e-7)
    bare = interop.haiku.dump(sc.LSTM(H, bias="none"), drawn(sc.LSTM(H, bias="none")))
    np.testing.assert_array_equal(bare["lstm/linear"]["b"].reshape(4, H)[:, 0], [0, 0, -1, 0])


def test_a_table_in_its_own_order_for_each_field():
    """A letter that names none of our gates would be dropped silently."""
    from seqcells.interop import _gates

    modules = [getattr(interop, name) for name in LAYERS]
    tables = [t for m in modules for t in vars(m).values() if isinstance(t, _gates.Table)]
    tables += interop.torch._TABLES.values()
    kinds = (sc.GRU, sc.LSTM, sc.RNN, sc.SLSTM, sc.LiGRU)
    cells = {frozenset(kind.GATES): kind(H) for kind in kinds}
    assert len(tables) == 29
    for table in tables:
        cell = cells[frozenset(g for slot in table.slots for g in slot.gates)]
        for slot in table.slots:
            assert set(slot.gates) <= set(_gates.order(cell, slot.field)), slot
        for field in ("w_ih", "w_hh"):
            gates = "".join(slot.gates for slot in table.slots if slot.field == field)
            assert sorted(gates) == sorted(_gates.order(cell, field)), table


@pytest.mark.parametrize("name", ["torch", "keras", "linen", "onnx"])
@pytest.mark.parametrize("some", [0.0, 1.0])
def test_the_sign_of_a_zero_comes_back(name, some):
    module, params = getattr(interop, name), drawn(LSTM)
    params = params._replace(b=jnp.array([-0.0, some] * (2 * H)))
    back = module.load(module.dump(LSTM, params), LSTM)
    assert np.asarray(back.b).tobytes() == np.asarray(params.b).tobytes()
