"""Safetensors files: cells and parameters load again to the bit, and nothing else is accepted."""

import dataclasses
import inspect
import json
import sys
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import _static, initializers
from seqcells._model import Model
from seqcells.initializers import Chrono, Identity, Normal, ones, zeros
from tests.support.interop import GRU, LSTM, D, H, drawn
from tests.support.laws import CASES, assert_same_bits

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.numpy")

CHRONO = (zeros, Chrono(20), zeros)
LAYERS = {
    name: case.cell
    for name, case in CASES.items()
    if type(case.cell) in vars(sc).values() and name != "function"
}
WIDE = {name: case.features for name, case in CASES.items() if case.features > D}
LAYERS |= {
    "initialisers": sc.GRU(H, w_hh_init=(Identity(0.5), Normal(0.1), ones), b_ih_init=CHRONO),
    "truncated": sc.Recurrent(GRU, engine=sc.Truncated(5, sc.Scan(checkpoint="sqrt"))),
    "dtypes": sc.LSTM(H, dtype=jnp.bfloat16, param_dtype=jnp.float16),
    "learned": sc.Recurrent(LSTM, reverse=True, learned_carry=True, engine=sc.Scan(checkpoint=3)),
    "deep": sc.Stack((GRU, sc.Bidirectional(LSTM, sc.Recurrent(GRU), "concat")), 0.1, skip=True),
    "grud": sc.GRUD(H, "sigmoid", gate_activation="hard_sigmoid", decayed_mix=False),
    "residual": sc.Residual(sc.RNN(3)),
    "wrapped": sc.Zoneout(sc.VariationalDropout(LSTM, 0.1, 0.2), (0.1, 0.05)),
    "blocks": sc.Stack((sc.Block(GRU, mlp=sc.GLU(5), gate="gelu"), sc.CausalConv(3), sc.MLP(4))),
    "branches": sc.Stack(
        (sc.Residual(sc.Dense(D, heads=D), "mul"), sc.Parallel((sc.Take(0, 1), LSTM), "concat"))
    ),
    "norm": sc.LayerNorm(sc.GRU(H, bias="none"), eps=1e-5),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_saved_params_load_again_to_the_bit(name, dtype, path):
    layer = LAYERS[name]
    params = drawn(layer, dtype, input_size=WIDE.get(name, D))
    sc.interop.save(path, layer, params)
    again, back = sc.interop.load(path)
    assert again == layer
    assert hash(again) == hash(layer)
    assert_same_bits(back, params)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# Values of the arguments without a default, by their type: of these each public class is made.
VALUES = {
    int: H,
    float: 2.0,
    sc.Cell: GRU,
    sc.SplitCell: GRU,
    sc.Layer: sc.Recurrent(sc.RNN(D)),
    Model: sc.RNN(D),
    sc.Cell | sc.Recurrent: LSTM,
    tuple[Model, ...]: (GRU, LSTM),
}
PUBLIC = {
    name: getattr(module, name)
    for module in (sc, initializers)
    for name in module.__all__
    if dataclasses.is_dataclass(getattr(module, name))
    and not inspect.isabstract(getattr(module, name))
}


OWN = {  # not any value of a type will do
    "Dropout": sc.Dropout(0.5),
    "Norm": sc.Norm("rms"),
    "Activation": sc.Activation("silu"),
    "Take": sc.Take(0, 2),
    "SparsePattern": sc.SparsePattern(0.5),
    "Constrained": sc.Constrained(GRU, sc.Dale()),
    "RGLRU": sc.RGLRU(D),
    "Mamba": sc.Mamba(D),
}
OF_FUNCTIONS = ("FunctionCell", "Pointwise")  # which no file can name


def one_of(kind):
    if kind.__name__ in OWN:
        return OWN[kind.__name__]
    required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    hints = typing.get_type_hints(kind)
    for name in required:
        place = f"{kind.__name__}.{name}: {hints[name]}"
        assert hints[name] in VALUES, (
            f"{place}: add a value to VALUES in tests/interop/test_file.py"
        )
    return kind(**{name: VALUES[hints[name]] for name in required})


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in OF_FUNCTIONS])
def test_every_public_class_is_saved_and_loaded_by_its_name(name, path):
    value = one_of(PUBLIC[name])
    if isinstance(value, sc.Engine):
        layer = sc.Recurrent(GRU, engine=value)
    elif isinstance(value, (sc.Cell, sc.Layer)):
        layer = value
    elif isinstance(value, sc.Dale):
        layer = sc.Constrained(GRU, signs=value)
    elif isinstance(value, sc.SparsePattern):
        layer = sc.Constrained(GRU, pattern=value)
    else:
        layer = sc.RNN(H, w_hh_init=value)
    params = drawn(layer)
    sc.interop.save(path, layer, params)
    again, back = sc.interop.load(path)
    assert again == layer
    assert_same_bits(back, params)
    with safetensors.safe_open(path, framework="np") as file:
        assert f'"class": "{name}"' in file.metadata()["config"]


def test_files_name_exactly_the_public_classes():
    assert set(_static.named()) == set(PUBLIC)


def test_two_classes_of_the_library_cannot_have_one_name():
    refusal = r"GRU: .* got that of seqcells\.cells\.gru\.GRU for seqcel"
    with pytest.raises(TypeError, match=refusal):
        type("GRU", (sc.Cell,), {"__module__": "seqcells.cells.other"})
    assert _static.named()["GRU"] is sc.GRU


def test_float64_is_kept_where_jax_has_it(path, x64):
    sc.interop.save(path, GRU, drawn(GRU, jnp.float64))
    assert sc.interop.load(path)[1].w_ih.dtype == jnp.float64


def test_float64_is_refused_where_jax_would_round_it(path):
    with jax.enable_x64(True):
        sc.interop.save(path, GRU, drawn(GRU, jnp.float64))
    refusal = r"net\.safetensors: \w+: expected float64 to be switched on"
    with pytest.raises(ValueError, match=refusal):
        sc.interop.load(path)


def test_any_reader_sees_names_shapes_dtypes_and_the_configuration(path):
    sc.interop.save(path, sc.Bidirectional(GRU), drawn(sc.Bidirectional(GRU), jnp.bfloat16))
    with safetensors.safe_open(path, framework="np") as file:
        fields = sc.GRUParams._fields
        assert set(file.keys()) == {f"{way}.{n}" for way in ("forward", "backward") for n in fields}
        assert file.get_slice("forward.w_ih").get_shape() == [3, 12]
        assert file.get_slice("forward.w_ih").get_dtype() == "BF16"
        header = file.metadata()
    assert json.loads(header["config"])["forward"]["hidden_size"] == H
    assert header["input_size"] == "3"


def test_an_interrupted_save_leaves_the_old_file(path, monkeypatch):
    sc.interop.save(path, GRU, drawn(GRU))
    before, write = path.read_bytes(), Path.write_bytes

    def half(self, data):
        write(self, data[: len(data) // 2])
        raise OSError("a full disk")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="a full disk"):
        sc.interop.save(path, GRU, drawn(GRU, seed=1))
    assert path.read_bytes() == before


def test_a_file_of_another_format_is_refused(path):
    foreign(path, RNN1, format="seqcells-2", input_size="1")
    with pytest.raises(ValueError, match=r"net\.safetensors: expected a file of sc\.interop\.save"):
        sc.interop.load(path)


def test_numpy_scalars_of_a_configuration_are_their_values(path):
    layer = sc.Zoneout(sc.LayerNorm(sc.GRU(H), eps=np.float32(1e-3)), np.float64(0.5))
    params = drawn(layer)
    sc.interop.save(path, layer, params)
    assert sc.interop.load(path)[0] == layer


NARROW = [np.dtype(d) for d in (jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float8_e4m3b11fnuz)]
OTHER = [*NARROW, jnp.int8, jnp.int4, jnp.int32, jnp.uint32, bool, jnp.complex64]


@pytest.mark.parametrize("dtype", OTHER, ids=lambda dtype: np.dtype(dtype).name)
def test_arrays_that_could_not_be_read_are_not_written(dtype, path):
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, dtype), drawn(GRU))
    with pytest.raises(ValueError, match=rf"w_ih: expected .* got .*{np.dtype(dtype).name}"):
        sc.interop.save(path, GRU, params)
    keys = drawn(GRU)._replace(b_ih=jax.random.split(jax.random.key(0), 3 * H))
    with pytest.raises(ValueError, match="b_ih: expected a"):
        sc.interop.save(path, GRU, keys)
    assert not list(path.parent.iterdir())


def own_init(key, shape, dtype):
    return jnp.zeros(shape, dtype)


def test_what_a_file_cannot_name_is_refused_and_nothing_is_written(path):
    refused = {
        r"model\.w_hh_init: expected a class of seqcells": sc.GRU(H, w_hh_init=own_init),
        r"model\.merge: expected": sc.Bidirectional(GRU, merge=jnp.add),
        r"model\.layers\[1\]\.step_fn: expected": sc.Stack((GRU, CASES["function"].cell)),
    }
    for reason, layer in refused.items():
        with pytest.raises(ValueError, match=reason):
            sc.interop.save(path, layer, ())
    with pytest.raises(ValueError, match=r"params: GRU\(4\) expects"):
        sc.interop.save(path, GRU, drawn(LSTM))
    with pytest.raises(TypeError, match="model: expected"):
        sc.interop.save(path, {}, ())
    assert not list(path.parent.iterdir())


class Mine(sc.GRU):
    pass


Mine.__name__ = "GRU"


def test_a_class_of_the_same_name_is_refused(path):
    with pytest.raises(ValueError, match="model: expected a class of seqcells"):
        sc.interop.save(path, Mine(H), drawn(GRU))


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_a_file_that_is_cut_short_is_refused_by_its_path(path, length):
    sc.interop.save(path, GRU, drawn(GRU))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"net\.safetensors: expected a complete safetensors file"):
        sc.interop.load(path)


def foreign(path, config=None, **more):
    """Write a safetensors file with this header."""
    array = np.zeros(3, more.pop("dtype", "f"))
    about = None if config is None else {"format": "seqcells-1", "config": config} | more
    path.write_bytes(safetensors.numpy.save({"w": array}, about))


def header(config, input_size="1", **more):
    return {"config": config, "input_size": input_size, **more}


RNN1 = json.dumps({"class": "RNN", "hidden_size": 1})
DEEP = '{"class": "Residual", "layer": ' * 500 + RNN1 + "}" * 500
FOREIGN = [
    ({}, "expected a file of sc.interop.save"),
    ({"config": "{"}, "Expecting"),
    ({"config": RNN1}, "input_size"),
    (header(RNN1, "one"), "invalid literal"),
    (header(RNN1), "w_ih: expected an array of this name"),
    (header(RNN1, dtype="int32"), "w: expected one of F64, F32, .*I32"),
    (header('{"class": "os.system", "command": "true"}'), "config: expected"),
    (header('{"function": "eval"}'), "config: expected one of zeros, ones"),
    (header('{"class": "RNN", "size": 1}'), "size: expected an argument of RNN"),
    (header('{"class": "RNN", "hidden_size": 0}'), "hidden_size: expected"),
    (header('{"class": "RNN", "hidden_size": 4611686018427387904}'), "out of bounds"),
    (header("[" * 10_000), "recursion"),
    (header(DEEP), "recursion"),
    (header(RNN1, "9" * 5000), "Exceeds the limit"),
    (header(RNN1, str(1 << 62)), "w_ih: expected an array of this name"),
    (header("[1]"), "config: expected a seqcells.Cell or seqcells.Layer"),
]


@pytest.mark.parametrize(("about", "reason"), FOREIGN)
def test_a_foreign_file_is_refused_by_its_path(path, about, reason):
    foreign(path, **about)
    with pytest.raises(ValueError, match=rf"net\.safetensors: .*{reason}"):
        sc.interop.load(path)


def test_a_file_with_no_end_is_not_read(path):
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"net\.safetensors: expected a regular file"):
        sc.interop.load(path)


def test_a_missing_file_or_package_is_reported(path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        sc.interop.load(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "seqcells\[interop\]"$'):
        sc.interop.load(path)
