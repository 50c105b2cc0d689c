"""Cells that a framework lacks, and malformed arrays, raise an error with the reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import interop
from tests.support import interop as shared
from tests.support.interop import BEFORE, GRU, LSTM, RELU, RNN, SINGLE_BIAS, D, H, arrays_of, drawn
from tests.support.laws import assert_same_bits


class Mine(sc.GRU):
    """A subclass may compute something else, so it is not converted as its base is."""


REFUSED = [
    *((name, Mine(H), "expected a cell that") for name in ("torch", "nnx", "equinox", "onnx")),
    ("torch", sc.GRU(H, reset_after=False), "reset_after: torch.nn.GRU resets after the product"),
    ("torch", sc.RNN(H, "identity"), "activation: torch.nn.RNN has tanh and relu"),
    ("torch", sc.RNN(H, "sigmoid"), "activation: torch.nn.RNN has tanh and relu"),
    ("torch", sc.MGU(H), r"expected a cell that torch has \(GRU, LSTM and RNN\), got MGU"),
    ("torch", sc.Zoneout(GRU), "expected a cell that torch has"),
    ("torch", sc.Recurrent(GRU, reverse=True), "reverse: torch has no layer"),
    ("torch", sc.Bidirectional(GRU, merge="sum"), "merge: torch has 'concat', got"),
    ("torch", sc.Bidirectional(GRU, sc.GRU(5)), "layers: torch has equal cells in a stack"),
    ("torch", sc.Stack((GRU, LSTM)), "layers: torch has equal cells in a stack"),
    ("torch", sc.Stack((GRU, sc.GRU(5))), "layers: torch has equal cells in a stack"),
    ("torch", sc.Stack((GRU, sc.GRU(H, bias="none"))), "layers: torch has equal cells in a stack"),
    ("torch", sc.Stack((GRU, sc.Bidirectional(GRU))), "one or two directions in all"),
    ("torch", sc.Stack((GRU, GRU), skip=True), "skip: torch has no such order"),
    ("torch", sc.Stack((sc.Stack((GRU,)),)), "expected a cell, Recurrent, Bidirectional or a"),
    ("torch", sc.Residual(sc.GRU(D)), "expected a cell, Recurrent, Bidirectional or a Stack"),
    ("torch", sc.Recurrent(GRU, learned_carry=True), "learned_carry: torch has no place"),
    ("keras", sc.IndRNN(H), "expected a cell that keras has"),
    ("keras", sc.Recurrent(GRU, reverse=True), "reverse: keras has no layer"),
    (
        "keras",
        sc.ConvLSTM(H, recurrent_kernel_size=1),
        "recurrent_kernel_size: keras.layers.ConvLSTM2D has one size for both kernels",
    ),
    ("torch", sc.ConvLSTM(H), "expected a cell that torch has"),
    ("linen", sc.GRU(H, reset_after=False), "reset_after: flax.linen.GRUCell resets after"),
    (
        "linen",
        sc.MGU(H),
        r"whose gate resets by the share that it keeps.*load its arrays into GRU\(4\)",
    ),
    ("linen", sc.MinGRU(H), "expected a cell that flax.linen has"),
    ("nnx", sc.GRU(H, reset_after=False), "reset_after: flax.nnx.GRUCell resets after"),
    ("nnx", sc.LRU(H), "expected a cell that flax.nnx has"),
    ("haiku", GRU, "reset_after: haiku.GRU resets before"),
    ("haiku", RNN, "activation: haiku.VanillaRNN is ReLU"),
    ("haiku", sc.MGU(H), "expected a cell that haiku has"),
    ("haiku", sc.Bidirectional(BEFORE), "merge: haiku has no Bidirectional at all"),
    ("equinox", sc.GRU(H, reset_after=False), "reset_after: equinox.nn.GRUCell resets after"),
    ("equinox", RNN, "expected a cell that equinox has"),
    ("onnx", sc.RNN(H, "identity"), "activation: onnx.RNN has tanh and relu"),
    ("onnx", sc.RNN(H, "sigmoid"), "activation: onnx.RNN has tanh and relu"),
    ("onnx", sc.Bidirectional(GRU, LSTM), "layers: onnx has equal cells in a layer"),
    ("onnx", sc.MGU(H), "expected a cell that onnx has"),
]
PROJECTED = sc.LSTM(H, proj_size=2)
REFUSED += [
    (name, layer, "proj_size: .*LSTM.* has no projection, got LSTM")
    for name in ("equinox", "haiku", "keras", "linen", "nnx", "onnx")
    for layer in (PROJECTED, sc.Stack((PROJECTED, LSTM)))
]


@pytest.mark.parametrize(("name", "layer", "reason"), REFUSED)
def test_what_no_weights_make_equal_is_refused_with_the_reason(name, layer, reason):
    module = getattr(interop, name)
    with pytest.raises(ValueError, match=reason):
        module.dump(layer, layer.init(jax.random.key(0), D))
    with pytest.raises(ValueError, match=reason):
        module.load({}, layer)


NATIVE = sc.GRU(H, reset_after=False)
NO_PLACE = [
    ("keras", NATIVE, "b_hh: keras.layers.GRU.* has no b_hh for the gates r, z, n"),
    ("linen", GRU, "b_hh: flax.linen.GRUCell has no b_hh for the gates r, z "),
    ("nnx", GRU, "b_hh: flax.nnx.GRUCell has no b_hh for the gates r, z, n"),
    ("haiku", NATIVE, "b_hh: haiku.GRU has no b_hh for the gates r, z, n"),
    ("equinox", GRU, "b_hh: equinox.nn.GRUCell has no b_hh for the gates r, z "),
    ("torch", sc.LSTM(H, peepholes=True), "p: torch.nn.LSTM has no p for the gates i, f, o"),
    ("torch", sc.LSTM(H, peepholes=True, proj_size=2), "p: torch.nn.LSTM has no p"),
    ("keras", sc.LSTM(H, peepholes=True), "p: keras.layers.LSTM has no p"),
]


@pytest.mark.parametrize(("name", "layer", "reason"), NO_PLACE)
def test_a_number_without_a_place_must_be_zero(name, layer, reason):
    module, params = getattr(interop, name), drawn(layer)
    with pytest.raises(ValueError, match=reason):
        module.dump(layer, params)
    field = reason.partition(":")[0]
    array = np.zeros(getattr(params, field).shape, "f")
    if "r, z " in reason:
        array[2 * H :] = 1.0  # the candidate's has a place
    fine = params._replace(**{field: jnp.asarray(array)})
    assert_same_bits(module.load(module.dump(layer, fine), layer), fine)


def test_a_bias_that_the_cell_lacks_must_be_zero():
    arrays = interop.torch.dump(GRU, drawn(GRU))
    with pytest.raises(ValueError, match=r"b_hh: .* has no b_hh for the gates r, z, n"):
        interop.torch.load(arrays, SINGLE_BIAS)
    arrays["bias_hh"][:] = 0
    assert interop.torch.load(arrays, SINGLE_BIAS).b_hh is None
    arrays = interop.nnx.dump(RNN, drawn(RNN))
    with pytest.raises(ValueError, match=r"b: .* has no b for the gates h"):
        interop.nnx.load(arrays, sc.RNN(H, bias="none"))


def test_an_mgu_of_linen_is_a_gru_and_goes_back_as_one_alone_if_it_is():
    arrays = arrays_of("linen", "mgu")
    arrays = {key: a.astype("f") for key, a in arrays.items()}
    params = interop.linen.load(arrays, GRU)
    back = shared.flat(interop.linen.dump(GRU, params, like=arrays))
    assert all((back[key] == arrays[key]).all() for key in arrays)
    other = params._replace(w_ih=params.w_ih.at[0, 0].add(1))
    with pytest.raises(ValueError, match=r"MGUCell has one if/kernel where GRU.* has two"):
        interop.linen.dump(GRU, other, like=arrays)


def torch_arrays():
    return interop.torch.dump(GRU, drawn(GRU))


MALFORMED = [
    (lambda a: a.pop("bias_hh"), GRU, "bias_hh: expected an array of this name for GRU"),
    (lambda a: a.pop("weight_ih"), GRU, "weight_ih: expected an array of this name for GRU"),
    (lambda a: a.update(extra=a["bias_hh"]), GRU, "extra: expected no array of this name"),
    (lambda a: a, sc.GRU(H, bias="none"), "bias_ih: expected no array of this name"),
    (lambda a: a, sc.GRU(5), r"weight_ih: expected \[15, 3\] for GRU\(5\) in torch, got \[12, 3\]"),
    (lambda a: a, LSTM, r"weight_ih: expected \[16, 3\]"),
    (lambda a: a.update(weight_ih=a["weight_ih"].T), GRU, r"expected \[12, 12\] .* got \[3, 12\]"),
    (
        lambda a: a.update(weight_hh=a["weight_hh"].T),
        GRU,
        r"hh: expected \[12, 4\] .* got \[4, 12\]",
    ),
    (lambda a: a.update(weight_ih=a["weight_ih"][0]), GRU, r"weight_ih: expected \[12, 1\]"),
    (lambda a: a.update(bias_ih=a["bias_ih"][:5]), GRU, r"bias_ih: expected \[12\] .* got \[5\]"),
    (lambda a: a.update(bias_ih=a["bias_ih"].astype(int)), GRU, "bias_ih: expected a floating dt"),
    (lambda a: a.update(bias_ih=a["bias_ih"].astype("d")), GRU, "bias_ih: expected float64 to be"),
    (lambda a: a.update(bias_ih=a["bias_ih"].astype("e")), GRU, "expected one dtype .* float16, f"),
    (lambda a: a.update(bias_ih=[[1.0], [2.0, 3.0]]), GRU, "bias_ih: expected a NumPy array, got"),
]


@pytest.mark.parametrize(("spoil", "layer", "reason"), MALFORMED)
def test_malformed_arrays_are_named_with_what_was_expected_and_got(spoil, layer, reason):
    arrays = torch_arrays()
    spoil(arrays)
    with pytest.raises(ValueError, match=reason):
        interop.torch.load(arrays, layer)


def test_params_of_another_layer_and_what_is_no_dict_are_refused():
    with pytest.raises(ValueError, match=r"params: GRU\(4\) expects GRUParams.*got LSTMParams"):
        interop.torch.dump(GRU, drawn(LSTM))
    with pytest.raises(ValueError, match=r"params: GRU\(4\) expects"):
        interop.torch.dump(GRU, ())
    with pytest.raises(TypeError, match="arrays: expected a dict of arrays, got"):
        interop.torch.load([1.0], GRU)
    with pytest.raises(ValueError, match="extra: expected no array of this name"):
        interop.torch.dump(GRU, drawn(GRU), like=torch_arrays() | {"extra": np.ones(1, "f")})


def test_keras_layers_in_another_order_than_its_own_are_refused():
    both, stack = sc.Bidirectional(GRU), sc.Stack((GRU,) * 11)
    arrays = interop.keras.dump(both, drawn(both))
    with pytest.raises(ValueError, match="expected the forward layer here"):
        interop.keras.load(dict(sorted(arrays.items())), both)
    arrays = interop.keras.dump(stack, drawn(stack))
    with pytest.raises(ValueError, match="gru_2/gru_cell: expected Keras's own order"):
        interop.keras.load(dict(sorted(arrays.items())), stack)
    with pytest.raises(ValueError, match="expected the arrays of 2 cells, got those of 11"):
        interop.keras.load(arrays, both)


def test_a_copy_is_made_both_ways():
    arrays = torch_arrays()
    params = interop.torch.load(arrays, GRU)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    before = jax.tree.map(np.array, params)
    for array in arrays.values():
        array[...] = 7.0
    assert_same_bits(jax.tree.map(np.asarray, params), before)


def test_the_attributes_of_onnx_nodes():
    layer = sc.Stack((sc.Bidirectional(NATIVE), sc.Recurrent(RELU, reverse=True)))
    gru, rnn = ({"op_type": kind, "hidden_size": H} for kind in ("GRU", "RNN"))
    assert interop.onnx.attributes(layer) == [
        gru | {"direction": "bidirectional", "linear_before_reset": 0},
        rnn | {"direction": "reverse", "activations": ["Relu"]},
    ]
    assert interop.onnx.attributes(LSTM)[0]["op_type"] == "LSTM"


def test_a_projected_lstm_is_the_layer_of_torch_and_no_cell_of_it():
    arrays = interop.torch.dump(PROJECTED, drawn(PROJECTED))
    assert {name: a.shape for name, a in arrays.items()} == {
        "weight_ih_l0": (4 * H, D),
        "weight_hh_l0": (4 * H, 2),
        "bias_ih_l0": (4 * H,),
        "bias_hh_l0": (4 * H,),
        "weight_hr_l0": (2, H),
    }
    with pytest.raises(ValueError, match="weight_hr_l0: expected an array of this name for LSTM"):
        interop.torch.load({k: a for k, a in arrays.items() if "hr" not in k}, PROJECTED)
    with pytest.raises(ValueError, match="weight_hr_l0: expected no array of this name for LSTM"):
        interop.torch.load(arrays, LSTM)


def test_onnx_writes_no_net_with_a_projection():
    net = sc.Stack((sc.Dense(3), PROJECTED))
    with pytest.raises(ValueError, match=r"proj_size: onnx.LSTM has no projection"):
        interop.onnx.model(net, net.init(jax.random.key(0), D), D)
