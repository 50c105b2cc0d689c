"""Weights of recurrentgemma's RG-LRU, whose numbers tests/cells/test_goldens.py compares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.interop import recurrentgemma
from tests.support.interop import GRU, drawn, flat
from tests.support.laws import assert_same_bits

CELL = sc.RGLRU(6, heads=3)
SHAPES = {
    "a_param": (6,),
    "a_gate.w": (3, 2, 2),
    "a_gate.b": (3, 2),
    "input_gate.w": (3, 2, 2),
    "input_gate.b": (3, 2),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_any_params_come_back_to_the_bit(heads, dtype):
    cell = sc.RGLRU(6, heads=heads)
    params = drawn(cell, dtype, input_size=6)
    arrays = recurrentgemma.dump(cell, params)
    assert_same_bits(recurrentgemma.load(arrays, cell), params)
    assert {a.dtype for a in arrays.values()} == {jnp.dtype(dtype)}


def test_a_head_reads_its_own_features():
    params = drawn(CELL, input_size=6)
    arrays = recurrentgemma.dump(CELL, params)
    assert {name: a.shape for name, a in arrays.items()} == SHAPES
    x = np.random.default_rng(1).normal(size=6).astype("float32")
    for gate, drive in zip(("a_gate", "input_gate"), CELL.project(params, x), strict=False):
        w, b = arrays[f"{gate}.w"], arrays[f"{gate}.b"]
        theirs = np.einsum("hi,hij->hj", x.reshape(3, 2), w) + b
        np.testing.assert_allclose(drive, theirs.ravel(), atol=1e-6)


def test_arrays_may_be_nested_as_flax_nests_them():
    params = drawn(CELL, input_size=6)
    arrays = recurrentgemma.dump(CELL, params)
    nested = {gate: {n: arrays[f"{gate}.{n}"] for n in "wb"} for gate in ("a_gate", "input_gate")}
    nested["a_param"] = arrays["a_param"]
    assert flat(nested).keys() == {name.replace(".", "/") for name in arrays}
    assert_same_bits(recurrentgemma.load(nested, CELL), params)


def test_loaded_params_are_copies():
    arrays = recurrentgemma.dump(CELL, drawn(CELL, input_size=6))
    params = recurrentgemma.load(arrays, CELL)
    before = jax.tree.map(np.array, params)
    for a in arrays.values():
        a[...] = 7
    assert_same_bits(params, before)


def test_what_is_not_an_rglru_is_refused():
    arrays = recurrentgemma.dump(CELL, drawn(CELL, input_size=6))
    with pytest.raises(ValueError, match=r"cell: .*recurrentgemma has \(RGLRU\), got GRU\(4\)"):
        recurrentgemma.load(arrays, GRU)
    with pytest.raises(ValueError, match=r"a_gate\.w: expected \[2, 3, 3\] for RGLRU\(6, heads=2"):
        recurrentgemma.load(arrays, sc.RGLRU(6, heads=2))
    with pytest.raises(ValueError, match="a_param: expected an array of this name"):
        recurrentgemma.load({n: a for n, a in arrays.items() if n != "a_param"}, CELL)
    with pytest.raises(ValueError, match="conv: expected no array of this name"):
        recurrentgemma.load(arrays | {"conv": np.zeros(3, "float32")}, CELL)
    with pytest.raises(ValueError, match="params: RGLRU"):
        recurrentgemma.dump(CELL, drawn(GRU))
    with pytest.raises(TypeError, match="params: expected arrays, got traced ones"):
        jax.jit(lambda params: recurrentgemma.dump(CELL, params))(drawn(CELL, input_size=6))
