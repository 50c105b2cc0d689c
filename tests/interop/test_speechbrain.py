"""speechbrain's LiGRU, whose numbers test_goldens.py compares: what no LiGRU here equals."""

import jax
import numpy as np
import pytest

import seqcells as sc
from seqcells.interop import speechbrain
from tests.support.interop import GRU, LIGRU, H, arrays_of, deep
from tests.support.laws import assert_same_bits

TANH = sc.LiGRU(H, "tanh")


def state_dict():
    """A layer's, in float32 but for the count of batches."""
    arrays = arrays_of("speechbrain", "ligru-layer-tanh")
    return {name: a if a.dtype == int else a.astype("f") for name, a in arrays.items()}


REFUSED = [
    (lambda a: a, GRU, r"expected a cell that speechbrain has \(LiGRU\), got GRU\(4\)"),
    (lambda a: a, sc.LiGRU(H, "sigmoid"), "activation: speechbrain.nnet.RNN.LiGRU has tanh and re"),
    (lambda a: a, sc.Recurrent(TANH, reverse=True), "reverse: speechbrain has no layer that reads"),
    (lambda a: a, sc.Bidirectional(TANH, merge="sum"), "merge: speechbrain has 'concat'"),
    (lambda a: a, sc.Stack((TANH, LIGRU)), "layers: speechbrain has equal cells in a stack"),
    (lambda a: a, deep(TANH), "rnn.0.w.weight: expected an array of this name for Stack"),
    (lambda a: a, sc.LiGRU(5), r"w.weight: expected \[10, 3\] for LiGRU\(5\) .*, got \[8, 3\]"),
    (lambda a: a, sc.LiGRU(H, bias="none"), "b: .* has no b for the gates n, z"),
    (lambda a: a.pop("norm.running_mean"), TANH, "norm.running_mean: expected an array of this"),
    (lambda a: a.pop("drop_masks"), TANH, "drop_masks: expected .*; SLiGRU has none: it normalis"),
    (lambda a: a["h_init"].fill(1), TANH, "h_init: expected zeros, as speechbrain has them, got"),
]


@pytest.mark.parametrize(("spoil", "model", "reason"), REFUSED)
def test_what_no_ligru_computes_is_refused(spoil, model, reason):
    arrays = state_dict()
    spoil(arrays)
    with pytest.raises(ValueError, match=reason):
        speechbrain.load(arrays, model)


def test_a_state_dict_is_a_dict():
    with pytest.raises(TypeError, match="arrays: expected a dict of arrays, got"):
        speechbrain.load([1.0], LIGRU)


def test_weights_can_be_loaded_in_a_traced_function():
    arrays, load = state_dict(), lambda arrays: speechbrain.load(arrays, TANH)
    for got, wanted in zip(jax.jit(load)(arrays), load(arrays), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_loaded_params_are_copies():
    arrays = state_dict()
    params = speechbrain.load(arrays, TANH)
    before = jax.tree.map(np.array, params)
    for a in arrays.values():
        a[...] = 7
    assert_same_bits(params, before)
