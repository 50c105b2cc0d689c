"""The order of layers where names do not tell it: the right one, or an error that says so."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import interop
from tests.support.interop import BEFORE, GRU, LSTM, RELU, H, drawn, flat
from tests.support.laws import assert_same_bits

BARE = sc.GRU(H, bias="none")
TWO, BOTH, DEEP = sc.Stack((GRU,) * 2), sc.Bidirectional(GRU), sc.Stack((GRU,) * 12)
MIXED = sc.Stack((BOTH, GRU))


class Group(dict):
    """An open .h5 file as far as `load` reads it; `layers` are those of its attribute."""

    def __init__(self, arrays, layers):
        super().__init__(arrays)
        self.attrs = {"layer_names": layers}


CUT = {"keras": r"(.*)/(gru_cell/\w+)", "haiku": r"(.*?)/((?:linear.*/)?\w+)"}  # path, array
ENDS = {  # of the names, in the framework's order
    "keras": ["gru_cell/kernel", "gru_cell/recurrent_kernel", "gru_cell/bias"],
    "haiku": ["w_i", "w_h", "linear/w", "linear/b", "linear_1/w", "linear_1/b", "b"],
}


def arrays_of(name, net, parts):
    """Return a net's parameters, and its arrays as the framework lists them, by other paths."""
    params = jax.tree.map(lambda a: jnp.round(a * 64) / 64, drawn(net, input_size=H))
    arrays = flat(getattr(interop, name).dump(net, params))
    cut = {key: re.fullmatch(CUT[name], key).groups() for key in arrays}
    paths = list(dict.fromkeys(path for path, _ in cut.values()))
    new = dict(zip(paths, parts, strict=True))
    order = sorted(cut, key=lambda key: (paths.index(cut[key][0]), ENDS[name].index(cut[key][1])))
    return params, {f"{new[cut[key][0]]}/{cut[key][1]}": arrays[key] for key in order}


def in_order(arrays):
    return arrays


def by_name(arrays):
    return dict(sorted(arrays.items()))


def colon(arrays):
    return {f"{key}:0": a for key, a in arrays.items()}


def swapped(arrays):
    """The dict's order says the same as `layers`, and its names another."""
    return dict(sorted(arrays.items(), key=lambda item: item[0], reverse=True))


PARTS = ["encoder", "decoder"]
WAYS = ["both/forward_gru", "both/backward_gru"]
OWN = [f"gru{'_' * (i > 0)}{i or ''}" for i in range(12)]
KERAS = [
    (TWO, PARTS, in_order, None, None),
    (TWO, PARTS[::-1], in_order, None, None),
    (TWO, ["gru_2", "gru_1"], in_order, None, None),
    (TWO, ["gru", "gru_1"], colon, None, None),
    (TWO, ["net/a/gru_9", "net/a/gru_10"], in_order, None, None),
    (TWO, PARTS, by_name, None, "decoder/gru_cell: expected Keras's own order.*pass layers="),
    (TWO, ["gru", "gru_1"], by_name, None, "gru/gru_cell: expected Keras's own order"),
    (TWO, PARTS, swapped, None, "expected Keras's own order"),
    (TWO, PARTS, by_name, PARTS, None),
    (TWO, PARTS, by_name, ["input", "encoder", "dropout", "decoder"], None),
    (TWO, PARTS, in_order, ["encoder"], "layers: expected one name that is a part of decoder/gru"),
    (TWO, ["a/gru", "a/gru_1"], by_name, ["a"], "layers: expected a name for each layer, not both"),
    (TWO, ["a/gru", "a/gru_1"], by_name, ["a", "gru", "gru_1"], "layers: expected one name"),
    (DEEP, OWN, in_order, None, None),
    (DEEP, OWN, by_name, OWN, None),
    (BOTH, WAYS, in_order, None, None),
    (BOTH, ["both/forward_gru", "both/mine"], in_order, None, None),
    (BOTH, WAYS[::-1], in_order, None, "expected the forward layer here"),
    (BOTH, WAYS, by_name, None, "expected the forward layer here"),
    (BOTH, WAYS, by_name, ["both"], None),
    (BOTH, ["forward_net/forward_gru", "forward_net/backward_gru"], by_name, None, "the forward l"),
    (BOTH, ["both/forward_gru", "both/mine"], by_name, None, "both/mine/gru_cell: expected the ba"),
    (MIXED, [*WAYS, "after"], by_name, ["both", "after"], None),
    (MIXED, [*WAYS, "after"], by_name, None, "expected Keras's own order"),
    (TWO, WAYS, in_order, None, "expected a layer, got one direction of a Bidirectional"),
    (sc.Stack((BARE,) * 2), PARTS, in_order, None, None),
    (sc.Stack((BARE,) * 2), ["gru_3", "gru_4"], by_name, None, None),
    (sc.Stack((BARE,) * 2), PARTS, by_name, None, "expected Keras's own order"),
    (sc.Stack((BARE,) * 12), OWN, by_name, None, "expected Keras's own order"),
    (sc.Stack((BARE,) * 2), PARTS, by_name, PARTS, None),
    (sc.Stack((BARE, sc.GRU(5, bias="none"))), ["a", "b"], by_name, None, None),
    (sc.Stack((GRU, sc.GRU(5))), ["a", "b"], by_name, None, None),
    (sc.Stack((GRU, sc.GRU(5))), ["b", "a"], by_name, None, r"kernel: expected \[4, 12\]"),
]
TWO_BEFORE, TWO_LSTM = sc.Stack((BEFORE,) * 2), sc.Stack((LSTM,) * 2)
HAIKU = [
    (BEFORE, ["net/~/gru"], in_order, None, None),
    (BEFORE, ["encoder"], by_name, None, None),
    (LSTM, ["net/lstm"], by_name, None, None),
    (RELU, ["net/mine"], in_order, None, None),
    (TWO_BEFORE, PARTS, in_order, None, None),
    (TWO_BEFORE, ["gru_1", "gru"], in_order, None, None),
    (TWO_BEFORE, ["gru", "gru_1"], by_name, None, None),
    (TWO_BEFORE, PARTS, by_name, None, r"decoder: expected modules in the order of init.*layers="),
    (TWO_BEFORE, ["a/gru", "b/gru"], by_name, None, "a/gru: expected modules in the order of init"),
    (TWO_BEFORE, PARTS, by_name, PARTS, None),
    (TWO_BEFORE, ["gru_1", "gru"], by_name, ["gru_1", "gru"], None),
    (TWO_BEFORE, PARTS, by_name, ["encoder"], "layers: expected one name that is a part of decod"),
    (TWO_LSTM, PARTS, in_order, None, None),
    (TWO_LSTM, PARTS, by_name, None, "expected modules in the order of init"),
    (TWO_LSTM, PARTS, by_name, PARTS, None),
    (sc.Stack((BEFORE,) * 12), OWN, by_name, None, None),
    (sc.Stack((BEFORE, LSTM, RELU)), ["a", "b/c", "d"], by_name, None, None),
]
ROWS = [("keras", *row) for row in KERAS] + [("haiku", *row) for row in HAIKU]


@pytest.mark.parametrize(("name", "net", "parts", "change", "layers", "refusal"), ROWS)
def test_the_order_of_layers_is_right_or_refused(name, net, parts, change, layers, refusal):
    params, arrays = arrays_of(name, net, parts)
    load, arrays = getattr(interop, name).load, change(arrays)
    if refusal is None:
        assert_same_bits(load(arrays, net, layers=layers), params)
        back = flat(getattr(interop, name).dump(net, params, like=arrays, layers=layers))
        assert list(back) == list(arrays)
        assert_same_bits(back, arrays)
    else:
        with pytest.raises(ValueError, match=refusal):
            load(arrays, net, layers=layers)


@pytest.mark.parametrize("layers", [PARTS, [name.encode() for name in PARTS]])
def test_an_open_file_of_keras_knows_the_order_of_its_layers(layers):
    params, arrays = arrays_of("keras", TWO, PARTS)
    file = Group(by_name(arrays), layers)
    assert_same_bits(interop.keras.load(file, TWO), params)
    assert_same_bits(interop.keras.load(Group({"model_weights": file}, None), TWO), params)


def test_a_cell_of_keras_needs_no_path():
    params = drawn(GRU)
    arrays = interop.keras.dump(GRU, params)
    bare = {key.rpartition("/")[2]: array for key, array in arrays.items()}
    assert_same_bits(interop.keras.load(bare, GRU), params)
    assert_same_bits(interop.keras.load(by_name(bare), GRU), params)


def test_two_arrays_of_one_name_are_refused():
    _, arrays = arrays_of("keras", BOTH, WAYS)
    name, array = next(iter(arrays.items()))
    with pytest.raises(ValueError, match=rf"{name}:0: expected one array of this name, got two"):
        interop.keras.load(arrays | {f"{name}:0": array}, BOTH)
    nested = {"a": {"w": np.ones(1, "f")}, "a/w": np.ones(1, "f")}
    with pytest.raises(ValueError, match="a/w: expected one array of this name, got two"):
        interop.torch.load(nested, GRU)
