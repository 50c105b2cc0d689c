"""Weights of flashrnn's sLSTM: their shapes, and what is refused."""

import pytest

import seqcells as sc
from seqcells.interop import flashrnn
from tests.support.interop import LSTM, SLSTM, D, H, drawn


def test_arrays_have_the_shapes_that_flashrnn_takes():
    for size in (D, 0):
        arrays = flashrnn.dump(SLSTM, drawn(SLSTM, input_size=size))
        shapes = {name: a.shape for name, a in arrays.items()}
        assert shapes == {"W": (4, 2, 2, size), "R": (4, 2, 2, 2), "b": (4, 2, 2)}
        assert flashrnn.load(arrays, SLSTM).w_ih.shape == (size, 4 * H)


REFUSED = [
    (lambda a: a, LSTM, r"cell: expected an SLSTM, .*, got LSTM\(4\)"),
    (lambda a: a, sc.Recurrent(SLSTM), "cell: expected an SLSTM, .*, got Recurrent"),
    (lambda a: a.pop("b"), SLSTM, "b: expected an array of this name for SLSTM"),
    (lambda a: a.update(Wx=a["W"]), SLSTM, "Wx: expected no array of this name for SLSTM"),
    (lambda a: a, sc.SLSTM(H), r"W: expected \[4, 1, 4, 3\] for SLSTM.*, got \[4, 2, 2, 3\]"),
    (lambda a: a.update(R=a["R"][:3]), SLSTM, r"R: expected \[4, 2, 2, 2\] .* got \[3, 2, 2, 2\]"),
    (lambda a: a.update(b=a["b"].ravel()), SLSTM, r"b: expected \[4, 2, 2\] .* got \[16\]"),
    (lambda a: a, sc.SLSTM(H, heads=2, bias="none"), "b: .* has no b for the gates i, f, z, o"),
]


@pytest.mark.parametrize(("spoil", "cell", "reason"), REFUSED)
def test_what_is_not_the_slstm_is_refused(spoil, cell, reason):
    arrays = flashrnn.dump(SLSTM, drawn(SLSTM))
    spoil(arrays)
    with pytest.raises(ValueError, match=reason):
        flashrnn.load(arrays, cell)


def test_params_of_another_cell_are_refused():
    with pytest.raises(ValueError, match="cell: expected an SLSTM"):
        flashrnn.dump(LSTM, drawn(LSTM))
    with pytest.raises(ValueError, match=r"params: SLSTM\(4, heads=2\) expects"):
        flashrnn.dump(SLSTM, drawn(LSTM))
