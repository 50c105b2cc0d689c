"""State dicts of mamba-ssm, whose numbers tests/models/test_models.py compares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.interop import mamba
from tests.support.interop import drawn
from tests.support.laws import assert_same_bits

SIZES = {"layers": 2, "width": 6, "state_size": 3, "vocab": 5}
NET = sc.models.mamba(**SIZES)
PARAMS = drawn(NET, input_size=())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_any_params_come_back_to_the_bit(dtype):
    net = sc.models.mamba(**SIZES, param_dtype=dtype, dtype="bfloat16")
    params = drawn(net, dtype, input_size=())
    arrays = mamba.dump(net, params)
    assert_same_bits(mamba.load(arrays, net), params)
    np.testing.assert_array_equal(arrays["lm_head.weight"], arrays["backbone.embedding.weight"])
    before = jax.tree.map(np.array, back := mamba.load(arrays, net))
    for array in arrays.values():
        array[...] = 7
    assert_same_bits(back, before)


def changed(**arrays):
    return {**mamba.dump(NET, PARAMS), **arrays}


WRONG = {
    "another model": (
        lambda: mamba.load({}, sc.models.hawk("100m", vocab=5)),
        r"net: expected sc.models.mamba\(..., vocab=\), got Stack",
    ),
    "another block": (
        lambda: mamba.load({}, sc.Stack((*NET.layers[:2], sc.GRU(6), NET.layers[-1]), tied=True)),
        r"net: expected sc.models.mamba\(..., vocab=\), got Stack",
    ),
    "vectors": (lambda: mamba.dump(sc.models.mamba(layers=1, width=6), None), "net: expected"),
    "a block too many": (
        lambda: mamba.load(changed(), sc.models.mamba(**SIZES | {"layers": 1})),
        r"backbone.layers.1.norm.weight: expected no array of this name for 1 blocks",
    ),
    "another size": (
        lambda: mamba.load(changed(), sc.models.mamba(**SIZES | {"state_size": 4})),
        r"mixer.x_proj.weight: expected \[9, 12\] for 2 blocks of Mamba .*, got \[7, 12\]",
    ),
    "a readout of its own": (
        lambda: mamba.load(changed(**{"lm_head.weight": np.ones((5, 6), "float32")}), NET),
        "lm_head.weight: expected backbone.embedding.weight again, got another array",
    ),
    "other parameters": (lambda: mamba.dump(NET, PARAMS[::-1]), "params: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_by_name(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
