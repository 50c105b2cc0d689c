"""Run the authors' own code of recurrent cells with resets and from given carries.

    pip install torch==2.13.0 einops==0.8.2 keras==3.15.1
    pip install --no-deps flashrnn==1.0.8 recurrentgemma==1.0.1 s5-pytorch==0.2.1 \
        minGRU-pytorch==0.2.1 mlstm-kernels==2.0.6 fla-core==0.6.0
    MAMBA_SKIP_CUDA_BUILD=TRUE pip install --no-deps --no-build-isolation mamba-ssm==2.3.2.post1
    CLONES=FOLDER python scripts/make_cell_goldens.py [SOURCE ...]

FOLDER has clones of github.com/tk-rusch/coRNN and /LEM, JosvanderWesthuizen/janet,
mravanelli/pytorch-kaldi and PeterChe1990/GRU-D.

The script writes the cases of these sources, or of all, into tests/goldens/resets.npz, which
`tests.goldens.read` reads: one record a case, so that the file is small. A record has the inputs
and weights by the names and in the layout of the source, `initial_*` and `reset_*` for the carry
before the first step and after a reset, `resets` bool[T, B], `ys` and `final_*` for what the source
computed, and `grad_*`, the gradient of `sum(ys ** 2)`. Numbers that were drawn are multiples of
1/64; results are float64 unless the source casts to float32 itself.

A source has up to three cases: `*_resets` from a given carry, with resets to the source's own
start; `*_reset_carry`, which starts from and resets to a given carry; and `*_one`, a single step
from a given carry. No carry is given where the source takes none. A source runs one sequence at a
time. Where it has no resets of its own, each piece between two resets is a call of its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import sys
import sysconfig
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock, patch

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch

Tensor = Any  # of torch
Module = Any  # a module of a source, which may lack types
Tensors = dict[str, Tensor]
Shapes = dict[str, Sequence[int]]
Arrays = dict[str, np.ndarray]
Carry = Sequence[Tensor]

PACKAGES = Path(sysconfig.get_path("purelib"))
CLONES = Path(os.environ.get("CLONES", "clones"))
OUT = Path(__file__).parents[1] / "tests" / "goldens" / "resets.npz"


class Model(NamedTuple):
    """What a source computes, and the axes of its arrays."""

    # (inputs and weights, carry or None) -> (ys, the last carry), of one sequence
    run: Callable[[Tensors, Carry | None], tuple[Tensor, Carry]]
    axes: dict[str, str]  # of the inputs and of ys, such as {"x": "BTD"}
    carry: dict[str, str]  # of the leaves of the carry
    dtype: type = np.float64
    # How the source is told where sequences start; None where it cannot be
    resets: Callable[[np.ndarray], Arrays] | None = None


class Form(NamedTuple):
    """The lengths and flags of a case."""

    T: int
    B: int
    start: str  # which carry is given, if the source takes one: "initial" or "reset"
    resets: Sequence[tuple[int, int]] = ()  # (t, row)


FORMS = {
    # A row that goes on, one with a reset, one with three
    "resets": Form(5, 3, "initial", [(2, 1), (0, 2), (3, 2), (4, 2)]),
    "reset_carry": Form(3, 2, "reset", [(1, 0), (0, 1), (2, 1)]),
    "one": Form(1, 1, "initial"),
}


def load(path: Path, **stubs: Module) -> Module:
    """Import one file of a source and nothing around it; `stubs` are modules that it imports."""
    name = f"{path.parent.name}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, stubs):
        spec.loader.exec_module(module)
    return module


def draw(name: str, shape: Sequence[int], dtype: type) -> np.ndarray:
    """Draw multiples of 1/64 from [-1, 1], others for every name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (rng.integers(-64, 65, shape) / 64).astype(dtype)


def unit(a: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1."""
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def positive(a: np.ndarray) -> np.ndarray:
    """Move numbers from [-1, 1] into (0, 1)."""
    return a / 4 + 0.5


def cases(
    name: str,
    model: Model,
    shapes: Callable[..., Shapes],
    sizes: Mapping[str, Sequence[int]],
    **adjust: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Arrays]:
    """Draw the arrays of the forms and run the model on them.

    `shapes(T, B, *sizes[form])` has the shapes of inputs and weights, and of the leaves of a carry
    if the source takes one. `adjust` changes arrays that were drawn.
    """
    built = {}
    for label, its_sizes in sizes.items():
        form, case = FORMS[label], f"{name}_{label}"
        arrays: Arrays = {}
        for key, shape in shapes(form.T, form.B, *its_sizes).items():
            stored = f"{form.start}_{key}" if key in model.carry else key
            array = draw(f"{case}/{stored}", shape, model.dtype)
            arrays[stored] = adjust.get(key, lambda a: a)(array)
        resets = np.zeros((form.T, form.B), bool)
        resets[tuple(np.array(form.resets, int).reshape(-1, 2).T)] = True
        if model.resets:
            arrays |= model.resets(resets)
            resets[:] = False
        elif form.resets:
            arrays["resets"] = resets
        built[case] = arrays | results(model, arrays, resets)
    return built


def results(model: Model, arrays: Arrays, resets: np.ndarray) -> Arrays:
    """Run a model piece by piece; return ys, the last carry and the gradients."""
    floats = {key: a for key, a in arrays.items() if a.dtype.kind == "f"}
    tensors = {key: torch.tensor(a, requires_grad=key in floats) for key, a in arrays.items()}
    inputs = {key: axes for key, axes in model.axes.items() if key != "ys"}
    weights = {key: tensors[key] for key in floats if key not in inputs}

    def start(kind: str, row: int) -> Carry | None:
        if any(f"{kind}_{key}" not in tensors for key in model.carry):
            return None
        return [
            tensors[f"{kind}_{key}"].narrow(axes.index("B"), row, 1)
            for key, axes in model.carry.items()
        ]

    def piece(row: int, first: int, last: int) -> Tensors:
        parts = dict(weights)
        for key, axes in inputs.items():
            of_row = tensors[key].narrow(axes.index("B"), row, 1)
            parts[key] = of_row.narrow(axes.index("T"), first, last - first)
        return parts

    rows, lasts = [], []
    for row, fresh in enumerate(resets.T):
        bounds = [0, *(1 + np.flatnonzero(fresh[1:])), len(fresh)]
        carry, parts = start("initial", row), []
        for first, last in itertools.pairwise(bounds):
            carry = start("reset", row) if carry is None or fresh[first] else carry
            ys, carry = model.run(piece(row, first, last), carry)
            parts.append(ys)
        rows.append(torch.cat(parts, model.axes["ys"].index("T")))
        lasts.append(carry)
    ys = torch.cat(rows, model.axes["ys"].index("B"))
    gradients = torch.autograd.grad(
        torch.sum(ys**2), [tensors[key] for key in floats], materialize_grads=True
    )
    outputs = {"ys": ys}
    for (key, axes), leaf in zip(model.carry.items(), zip(*lasts, strict=True), strict=True):
        outputs[f"final_{key}"] = torch.cat(leaf, axes.index("B"))
    outputs |= {f"grad_{key}": a for key, a in zip(floats, gradients, strict=True)}
    return {key: a.detach().numpy() for key, a in outputs.items()}


def stepwise(
    step: Callable[[Tensors, Tensor, Carry], Carry], start: Callable[[Tensors], Carry]
) -> Callable[[Tensors, Carry | None], tuple[Tensor, Carry]]:
    """Make `Model.run` of a step whose input is x [T, B, D] and whose output is its first leaf."""

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        ys, carry = [], start(a) if carry is None else carry
        for x in a["x"]:
            carry = step(a, x, carry)
            ys.append(carry[0])
        return torch.stack(ys), carry

    return run


def slstm_cases() -> dict[str, Arrays]:
    """Run sLSTM: x [B, T, D], W [4, NH, K, D], R [4, NH, K, K], b [4, NH, K]; carry [B, NH, K]."""
    from flashrnn import flashrnn

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        sums = torch.einsum("btj,gkdj->btgkd", a["x"], a["W"])
        states = None if carry is None else torch.stack(tuple(carry))[:, :, None]
        kind: Module = {"function": "slstm", "backend": "vanilla", "dtype": "float64"}
        all_states, last = flashrnn(sums, a["R"], a["b"], states, **kind)
        return all_states[0], list(last[:, :, 0])

    def shapes(T: int, B: int, D: int, NH: int, K: int) -> Shapes:
        weights = {"W": (4, NH, K, D), "R": (4, NH, K, K), "b": (4, NH, K)}
        return {"x": (B, T, D)} | weights | dict.fromkeys("hcnm", (B, NH, K))

    model = Model(run, {"x": "BTD", "ys": "BTHK"}, dict.fromkeys("hcnm", "BHK"))
    sizes = {"resets": (2, 2, 3), "reset_carry": (3, 1, 5), "one": (3, 1, 1)}
    return cases("slstm", model, shapes, sizes, n=lambda a: a + 1.5)


def lstm_proj_cases() -> dict[str, Arrays]:
    """Run torch's LSTM with a projection: x [T, B, D], h [1, B, P], c [1, B, H]."""

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        P, H = a["weight_hr_l0"].shape
        net = torch.nn.LSTM(a["x"].shape[2], H, proj_size=P, dtype=torch.float64)
        weights = {key: leaf for key, leaf in a.items() if key.endswith("l0")}
        args = a["x"], None if carry is None else tuple(carry)
        return torch.func.functional_call(net, weights, args)

    def shapes(T: int, B: int, D: int, H: int, P: int) -> Shapes:
        weights = {"weight_ih_l0": (4 * H, D), "weight_hh_l0": (4 * H, P), "weight_hr_l0": (P, H)}
        biases = dict.fromkeys(("bias_ih_l0", "bias_hh_l0"), (4 * H,))
        return {"x": (T, B, D)} | weights | biases | {"h": (1, B, P), "c": (1, B, H)}

    model = Model(run, dict.fromkeys(("x", "ys"), "TBD"), {"h": "LBP", "c": "LBH"})
    sizes = {"resets": (2, 4, 3), "reset_carry": (3, 5, 1), "one": (1, 2, 1)}
    return cases("lstm_proj", model, shapes, sizes)


def janet_cases() -> dict[str, Arrays]:
    """Run JANET, TensorFlow's part served by torch; both of its memories start from h [B, H]."""
    tf = MagicMock(
        variable_scope=lambda scope: contextlib.nullcontext(),
        concat=torch.cat,
        split=lambda value, num_or_size_splits, axis: value.chunk(num_or_size_splits, axis),
        matmul=torch.matmul,
        sigmoid=torch.sigmoid,
        tanh=torch.tanh,
    )
    tf.nn.bias_add = torch.add
    tf.contrib.rnn.BasicLSTMCell = object
    rnn = MagicMock(LSTMStateTuple=lambda c, h: (c, h))
    stubs = {"tensorflow": tf, "tensorflow.contrib.rnn": rnn, "tensorflow.python.ops": MagicMock()}
    source = load(CLONES / "janet/aux_code/rnn_cells.py", **stubs)
    source.print = lambda *args: None

    def step(a: Tensors, x: Tensor, carry: Carry) -> Carry:
        x = x.clone()
        x.get_shape = lambda: SimpleNamespace(as_list=lambda: list(x.shape))
        tf.get_variable = lambda name, shape, **options: a[name]
        cell = SimpleNamespace(num_units=carry[0].shape[1], forget_only=True, t_max=None)
        cell._state_is_tuple = True
        y, _ = source.CustomLSTMCell.__call__(cell, x, (carry[0], carry[0]))
        return [y]

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        weights = {"W_xh": (D, 2 * H), "W_hh": (H, 2 * H), "bias": (2 * H,)}
        return {"x": (T, B, D)} | weights | {"h": (B, H)}

    run = stepwise(step, lambda a: [a["x"].new_zeros(1, len(a["W_hh"]))])
    model = Model(run, dict.fromkeys(("x", "ys"), "TBD"), {"h": "BH"})
    return cases("janet", model, shapes, {"resets": (2, 3), "reset_carry": (3, 1), "one": (1, 2)})


def ligru_cases() -> dict[str, Arrays]:
    """Run Li-GRU without batch norm; it starts at zero."""
    source = load(CLONES / "pytorch-kaldi/neural_networks.py")
    off = dict.fromkeys(("use_batchnorm", "use_laynorm", "use_laynorm_inp"), "False")
    off |= dict.fromkeys(("use_batchnorm_inp", "orthinit", "bidir"), "False") | {"drop": "0"}

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        options = {"lay": str(len(a["bz"])), "act": "relu"} | off
        options = {f"ligru_{key}": value for key, value in options.items()}
        net = source.liGRU(options | {"use_cuda": "False", "to_do": "test"}, a["x"].shape[2])
        weights = {f"{key.lower()}.0.weight": a[key] for key in ("Wh", "Wz", "Uh", "Uz")}
        weights |= {f"w{gate}.0.bias": a[f"b{gate}"] for gate in "hz"}
        ys = torch.func.functional_call(net, weights, a["x"])
        return ys, [ys[-1]]

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        weights = {"Wh": (H, D), "Wz": (H, D), "Uh": (H, H), "Uz": (H, H), "bh": (H,), "bz": (H,)}
        return {"x": (T, B, D)} | weights

    model = Model(run, dict.fromkeys(("x", "ys"), "TBD"), {"h": "BH"})
    return cases("ligru", model, shapes, {"resets": (2, 3), "one": (1, 2)})


def cornn_cases() -> dict[str, Arrays]:
    """Run coRNN, dt = 0.3, gamma = 1.2, epsilon = 0.8: x [T, B, D], W [H, D + 2H]."""
    source = load(CLONES / "coRNN/sMNIST/network.py")

    def step(a: Tensors, x: Tensor, carry: Carry) -> Carry:
        H = len(a["b"])
        cell = source.coRNNCell(x.shape[1], H, dt=0.3, gamma=1.2, epsilon=0.8)
        weights = {"i2h.weight": a["W"], "i2h.bias": a["b"]}
        return torch.func.functional_call(cell, weights, (x, *carry))

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        weights = {"W": (H, D + 2 * H), "b": (H,)}
        return {"x": (T, B, D)} | weights | {"y": (B, H), "z": (B, H)}

    run = stepwise(step, lambda a: [a["x"].new_zeros(1, len(a["b"]))] * 2)
    model = Model(run, dict.fromkeys(("x", "ys"), "TBD"), {"y": "BH", "z": "BH"})
    return cases("cornn", model, shapes, {"resets": (2, 3), "reset_carry": (3, 1), "one": (1, 2)})


def lem_cases() -> dict[str, Arrays]:
    """Run LEM, dt = 1: x [T, B, D], W_in [4H, D], W_hid [3H, H], W_z [H, H]."""
    source = load(CLONES / "LEM/src/sMNIST/network.py")
    names = {"inp2hid": "in", "hid2hid": "hid", "transform_z": "z"}

    def step(a: Tensors, x: Tensor, carry: Carry) -> Carry:
        cell = source.LEMCell(x.shape[1], len(a["b_z"]), dt=1.0)
        weights = {f"{theirs}.weight": a[f"W_{key}"] for theirs, key in names.items()}
        weights |= {f"{theirs}.bias": a[f"b_{key}"] for theirs, key in names.items()}
        return torch.func.functional_call(cell, weights, (x, *carry))

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        weights = {"W_in": (4 * H, D), "W_hid": (3 * H, H), "W_z": (H, H)}
        biases = {"b_in": (4 * H,), "b_hid": (3 * H,), "b_z": (H,)}
        return {"x": (T, B, D)} | weights | biases | {"y": (B, H), "z": (B, H)}

    run = stepwise(step, lambda a: [a["x"].new_zeros(1, len(a["b_z"]))] * 2)
    model = Model(run, dict.fromkeys(("x", "ys"), "TBD"), {"y": "BH", "z": "BH"})
    return cases("lem", model, shapes, {"resets": (2, 3), "reset_carry": (3, 1), "one": (1, 2)})


def grud_cases() -> dict[str, Arrays]:
    """Run GRU-D, Keras's part served by torch: x and m [B, T, D], times s [B, T, 1].

    The carry is h [B, H], keep [B, D] and sprev [B, D], the time at which a variable was last
    observed. Times are absolute, so that no one carry fits all resets.
    """
    K = SimpleNamespace(
        backend=lambda: "torch",
        cast_to_floatx=float,
        bias_add=torch.add,
        dot=torch.matmul,
        switch=lambda flag, yes, no: torch.where(flag > 0, yes, no),
        tile=lambda a, n: a.tile(n),
        exp=torch.exp,
        relu=torch.relu,
    )
    stubs = {"keras": MagicMock(backend=K), "keras.engine": MagicMock()}
    stubs["keras.layers.recurrent"] = MagicMock(GRUCell=object, GRU=object)
    stubs |= {"keras.layers.wrappers": MagicMock(Bidirectional=object)}
    stubs |= {"keras.utils.generic_utils": MagicMock()}
    folder = CLONES / "GRU-D/nn_utils"
    activations = load(folder / "activations.py", **stubs)
    stubs["nn_utils.activations"] = activations
    source = load(folder / "grud_layers.py", **stubs)

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        D, H = a["Wgh"].shape
        first = a["s"][:, 0].expand(1, D)
        carry = [first.new_zeros(1, H), torch.zeros_like(first), first] if carry is None else carry
        decay = {"input_decay": activations.exp_relu, "hidden_decay": activations.exp_relu}
        decay |= {"input_decay_kernel": a["wx"], "input_decay_bias": a["bx"]}
        decay |= {"hidden_decay_kernel": a["Wgh"], "hidden_decay_bias": a["bgh"]}
        cell = SimpleNamespace(
            true_input_dim=D,
            state_size=(H, D, D),
            dropout=0.0,
            recurrent_dropout=0.0,
            _dropout_mask=None,
            _recurrent_dropout_mask=None,
            _masking_dropout_mask=None,
            feed_masking=True,
            masking_decay=None,
            use_decay_bias=True,
            use_bias=True,
            activation=torch.sigmoid,
            recurrent_activation=lambda u: torch.clamp(0.2 * u + 0.5, 0, 1),
            **decay,
        )
        theirs = {"kernel": "W", "recurrent_kernel": "U", "masking_kernel": "V"}
        for name, key in (theirs | {"input_bias": "bias"}).items():
            for gate, part in zip("zrh", a[key].chunk(3, -1), strict=True):
                setattr(cell, f"{name}_{gate}", part)
        ys = []
        for x, m, s in zip(a["x"][0], a["m"][0], a["s"][0], strict=True):
            inputs = torch.cat([x, m.to(x.dtype), s])[None]
            y, carry = source.GRUDCell.call(cell, inputs, carry)
            ys.append(y)
        return torch.stack(ys, 1), carry

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        inputs = {"x": (B, T, D), "m": (B, T, D), "s": (B, T, 1)}
        weights = {"W": (D, 3 * H), "U": (H, 3 * H), "V": (D, 3 * H), "bias": (3 * H,)}
        decays = {"wx": (D,), "bx": (D,), "Wgh": (D, H), "bgh": (H,)}
        return inputs | weights | decays | {"h": (B, H), "keep": (B, D), "sprev": (B, D)}

    axes = dict.fromkeys("xms", "BTD") | {"ys": "BTH"}
    model = Model(run, axes, {"h": "BH", "keep": "BD", "sprev": "BD"})
    adjust = {"m": lambda a: a > 0, "s": lambda a: np.cumsum(positive(a), axis=1)}
    adjust |= {"sprev": lambda a: -positive(a)}
    return cases("grud", model, shapes, {"resets": (2, 3), "one": (3, 1)}, **adjust)


def mingru_cases() -> dict[str, Arrays]:
    """Run minGRU, T > 1 in its parallel form: x [B, T, D], W [2H, D], h [B, 1, H] above 0."""
    from minGRU_pytorch.minGRU import minGRU

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        H, D = len(a["W"]) // 2, a["W"].shape[1]
        net = minGRU(D, H / D, proj_out=False)
        args = a["x"], None if carry is None else carry[0], True
        ys, h = torch.func.functional_call(net, {"to_hidden_and_gate.weight": a["W"]}, args)
        return ys, [h]

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        return {"x": (B, T, D), "W": (2 * H, D), "h": (B, 1, H)}

    model = Model(run, dict.fromkeys(("x", "ys"), "BTD"), {"h": "B1H"})
    sizes = {"resets": (2, 3), "reset_carry": (3, 1), "one": (1, 2)}
    return cases("mingru", model, shapes, sizes, h=positive)


def minlstm_cases() -> dict[str, Arrays]:
    """Run minLSTM: x [B, T, D], W [3H, D], h [B, 1, H].

    It runs step by step, since its parallel form changes a given h.
    """
    from minGRU_pytorch.minLSTM import minLSTM

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        H, D = len(a["W"]) // 3, a["W"].shape[1]
        net = minLSTM(D, H / D, proj_out=False)
        ys, h = [], None if carry is None else carry[0]
        for x in a["x"].split(1, dim=1):
            weights = {"to_hidden_and_f_i_gate.weight": a["W"]}
            y, h = torch.func.functional_call(net, weights, (x, h, True))
            ys.append(y)
        return torch.cat(ys, 1), [h]

    def shapes(T: int, B: int, D: int, H: int) -> Shapes:
        return {"x": (B, T, D), "W": (3 * H, D), "h": (B, 1, H)}

    model = Model(run, dict.fromkeys(("x", "ys"), "BTD"), {"h": "B1H"})
    sizes = {"resets": (2, 3), "reset_carry": (3, 1), "one": (1, 2)}
    return cases("minlstm", model, shapes, sizes, h=positive)


def rglru_cases() -> dict[str, Arrays]:
    """Run the RG-LRU, which has resets of its own: segment_pos [B, T] is 0.

    x is [B, T, H], W* [NH, H / NH, H / NH], b* [NH, H / NH], h [B, H]. A reset drops its carry, so
    that no other carry to reset to can be given.
    """
    stub = MagicMock()
    stub.array_typing.typed = lambda function: function
    source = load(PACKAGES / "recurrentgemma/torch/layers.py", **{"recurrentgemma.torch": stub})
    source.rnn_scan = functools.partial(source.rnn_scan, acc_dtype=torch.float64)

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        net = source.RGLRU(a["x"].shape[2], len(a["bx"]), dtype=torch.float64)
        weights = {"a_param": a["a_param"], "input_gate.w": a["Wx"], "input_gate.b": a["bx"]}
        weights |= {"a_gate.w": a["Wa"], "a_gate.b": a["ba"]}
        args = a["x"], a["segment_pos"], None if carry is None else carry[0]
        ys, h = torch.func.functional_call(net, weights, args)
        return ys, [h]

    def positions(resets: np.ndarray) -> Arrays:
        segment_pos = np.full(resets.T.shape, 7)  # of rows that go on
        for t, fresh in enumerate(resets):
            segment_pos[:, t] = np.where(fresh, 0, 1 + segment_pos[:, t - 1] if t else 7)
        return {"segment_pos": segment_pos}

    def shapes(T: int, B: int, NH: int, K: int) -> Shapes:
        weights = {"a_param": (NH * K,), "Wx": (NH, K, K), "bx": (NH, K)}
        weights |= {"Wa": (NH, K, K), "ba": (NH, K)}
        return {"x": (B, T, NH * K)} | weights | {"h": (B, NH * K)}

    axes = {"x": "BTH", "segment_pos": "BT", "ys": "BTH"}
    model = Model(run, axes, {"h": "BH"}, resets=positions)
    return cases("rglru", model, shapes, {"resets": (2, 3), "one": (1, 3)})


def s5_cases() -> dict[str, Arrays]:
    """Run S5: u [B, T, H], B [P, H], C [H, P], Lam and log_step [P], D [H], x [B, P], all complex.

    With zero-order hold, and `s5_bilinear_*` with the bilinear transform.
    """
    from s5.s5_model import apply_ssm, discretize_bilinear, discretize_zoh

    def run(a: Tensors, carry: Carry | None, discretise: Module) -> tuple[Tensor, Carry]:
        lam, b, c = (torch.complex(a[f"{key}_re"], a[f"{key}_im"]) for key in ("Lam", "B", "C"))
        lam, b = discretise(lam, b, torch.exp(a["log_step"]))
        state = None if carry is None else torch.complex(*carry)[0]
        ys, x = apply_ssm(lam, b, c, a["D"], a["u"][0], state)
        return ys[None], [x.real[None], x.imag[None]]

    def shapes(T: int, B: int, H: int, P: int) -> Shapes:
        both = {"Lam": (P,), "B": (P, H), "C": (H, P), "x": (B, P)}
        parts = {f"{key}_{part}": both[key] for key in both for part in ("re", "im")}
        return {"u": (B, T, H)} | parts | {"D": (H,), "log_step": (P,)}

    built = {}
    for name, discretise, sizes in (
        ("s5", discretize_zoh, {"resets": (2, 3), "one": (1, 2)}),
        ("s5_bilinear", discretize_bilinear, {"reset_carry": (3, 1)}),
    ):
        model = Model(
            functools.partial(run, discretise=discretise),
            dict.fromkeys(("u", "ys"), "BTH"),
            {"x_re": "BP", "x_im": "BP"},
        )
        built |= cases(name, model, shapes, sizes, Lam_re=lambda a: -positive(a))
    return built


def mamba_cases() -> dict[str, Arrays]:
    """Run Mamba's selective scan, which starts at zero.

    u, delta and z are [B, D, T], A is [D, N], B and C [B, N, T], D and delta_bias [D].
    """
    stubs = ("mamba_ssm.utils.torch", "mamba_ssm.ops.triton.layer_norm", "selective_scan_cuda")
    source = load(
        PACKAGES / "mamba_ssm/ops/selective_scan_interface.py",
        **{key: MagicMock() for key in stubs},
    )

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        ys, x = source.selective_scan_ref(**a, delta_softplus=True, return_last_state=True)
        return ys, [x]

    def shapes(T: int, B: int, D: int, N: int) -> Shapes:
        inputs = dict.fromkeys(("u", "delta", "z"), (B, D, T)) | dict.fromkeys("BC", (B, N, T))
        return inputs | {"A": (D, N), "D": (D,), "delta_bias": (D,)}

    axes = dict.fromkeys(("u", "delta", "z", "B", "C", "ys"), "BDT")
    model = Model(run, axes, {"x": "BDN"}, dtype=np.float32)
    sizes = {"resets": (3, 2), "one": (1, 3)}
    return cases("mamba", model, shapes, sizes, A=lambda a: -positive(a))


def mlstm_cases() -> dict[str, Arrays]:
    """Run mLSTM.

    q and k are [B, NH, T, K], v and ys [B, NH, T, V], i and f [B, NH, T] before their exponential
    and sigmoid. The carry is C [B, NH, K, V], n [B, NH, K] and m [B, NH, 1]; a fresh one is zero, m
    too. eps is 1e-6.
    """
    from mlstm_kernels.torch.recurrent.native_sequence import mlstm_recurrent_sequence__native_fw

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        names = ("c_initial", "n_initial", "m_initial")
        given = dict(zip(names, carry, strict=True)) if carry else {}
        return mlstm_recurrent_sequence__native_fw(
            *(a[key] for key in "qkvif"),
            **given,
            return_last_states=True,
            dtype_state=torch.float64,
        )

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> Shapes:
        steps = (B, NH, T)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V), "i": steps, "f": steps}
        return inputs | {"C": (B, NH, K, V), "n": (B, NH, K), "m": (B, NH, 1)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BHTD") | {"i": "BHT", "f": "BHT"}
    model = Model(run, axes, {"C": "BHKV", "n": "BHK", "m": "BH1"})
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases("mlstm", model, shapes, sizes, i=lambda a: 2 * a, n=lambda a: 4 * a)


def gdn_cases() -> dict[str, Arrays]:
    """Run gated DeltaNet.

    q and k are [B, T, NH, K], v and ys [B, T, NH, V], beta and g, the logarithm of the decay, are
    [B, T, NH], the carry S [B, NH, K, V]. q and k were drawn with length 1.
    """
    source = load(PACKAGES / "fla/ops/gated_delta_rule/naive.py")

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        ys, S = source.naive_recurrent_gated_delta_rule(
            *(a[key] for key in ("q", "k", "v", "beta", "g")),
            initial_state=carry and carry[0],
            output_final_state=True,
        )
        return ys, [S]

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> Shapes:
        steps = (B, T, NH)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V), "beta": steps, "g": steps}
        return inputs | {"S": (B, NH, K, V)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BTHD") | {"beta": "BTH", "g": "BTH"}
    model = Model(run, axes, {"S": "BHKV"}, dtype=np.float32)
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases(
        "gdn", model, shapes, sizes, q=unit, k=unit, beta=positive, g=lambda a: -positive(a)
    )


def deltanet_cases() -> dict[str, Arrays]:
    """Run DeltaNet.

    q and k are [B, NH, T, K], v and ys [B, NH, T, V], beta is [B, NH, T], the carry S
    [B, NH, K, V]. q and k were drawn with length 1.
    """
    source = load(PACKAGES / "fla/ops/delta_rule/naive.py")

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        given = carry and carry[0]
        ys, S = source.delta_rule_recurrence(
            *(a[key] for key in ("q", "k", "v", "beta")), initial_state=given
        )
        return ys, [S]

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> Shapes:
        steps = (B, NH, T)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V), "beta": steps}
        return inputs | {"S": (B, NH, K, V)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BHTD") | {"beta": "BHT"}
    model = Model(run, axes, {"S": "BHKV"}, dtype=np.float32)
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases("deltanet", model, shapes, sizes, q=unit, k=unit, beta=positive)


def retention_cases() -> dict[str, Arrays]:
    """Run retention.

    q and k are [B, NH, T, K], v and ys [B, NH, T, V], the carry S [B, NH, K, V]. The plain form of
    fla's retention takes no carry. fla computes retention as simple GLA with the decay
    gamma = 1 - 2^(-5 - head), and the plain form of that takes one.
    """
    source = load(PACKAGES / "fla/ops/simple_gla/naive.py")

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        q, k, v = (a[key].transpose(1, 2) for key in "qkv")
        g = torch.log(1 - 2.0 ** (-5.0 - torch.arange(q.shape[2]))).expand(q.shape[:3])
        given = carry and carry[0]
        ys, S = source.naive_recurrent_simple_gla(q, k, v, g, initial_state=given)
        return ys.transpose(1, 2), [S]

    def shapes(T: int, B: int, NH: int, K: int, V: int) -> Shapes:
        steps = (B, NH, T)
        inputs = {"q": (*steps, K), "k": (*steps, K), "v": (*steps, V)}
        return inputs | {"S": (B, NH, K, V)}

    axes = dict.fromkeys(("q", "k", "v", "ys"), "BHTD")
    model = Model(run, axes, {"S": "BHKV"}, dtype=np.float32)
    sizes = {"resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
    return cases("retention", model, shapes, sizes)


def convlstm_cases() -> dict[str, Arrays]:
    """Run Keras's ConvLSTM2D, padding "same", on torch.

    x is [B, T, H, W, C], ys [B, T, H, W, F], kernel [KH, KW, C, 4F], recurrent_kernel
    [KH, KW, F, 4F] and bias [4F], in the order i|f|c|o; the carry is h and c [B, H, W, F].
    """
    import keras

    keras.backend.set_floatx("float64")

    def run(a: Tensors, carry: Carry | None) -> tuple[Tensor, Carry]:
        layer = keras.layers.ConvLSTM2D(
            a["bias"].shape[0] // 4,
            tuple(a["kernel"].shape[:2]),
            padding="same",
            return_sequences=True,
            return_state=True,
        )
        layer.build(tuple(a["x"].shape))
        weights = [a["kernel"], a["recurrent_kernel"], a["bias"]]
        fixed = [variable.value for variable in layer.non_trainable_variables]
        given = {"initial_state": list(carry)} if carry else {}
        (ys, *last), _ = layer.stateless_call(weights, fixed, a["x"], **given)
        return ys, last

    def shapes(T: int, B: int, H: int, W: int, C: int, F: int, kernel: tuple[int, int]) -> Shapes:
        weights = {"kernel": (*kernel, C, 4 * F), "recurrent_kernel": (*kernel, F, 4 * F)}
        image = (B, H, W, F)
        return {"x": (B, T, H, W, C)} | weights | {"bias": (4 * F,), "h": image, "c": image}

    model = Model(run, dict.fromkeys(("x", "ys"), "BTHWC"), {"h": "BHWF", "c": "BHWF"})
    sizes = {
        "resets": (3, 4, 2, 2, (3, 3)),
        "reset_carry": (4, 2, 1, 3, (2, 3)),
        "one": (1, 3, 2, 1, (1, 2)),
    }
    return cases("convlstm", model, shapes, sizes)


def record(arrays: Arrays) -> np.ndarray:
    """Pack arrays into one, a field each."""
    kind = np.dtype([(key, a.dtype, a.shape) for key, a in arrays.items()])
    return np.array(tuple(arrays.values()), kind)


SOURCES = {
    "slstm": slstm_cases,
    "lstm_proj": lstm_proj_cases,
    "janet": janet_cases,
    "ligru": ligru_cases,
    "cornn": cornn_cases,
    "lem": lem_cases,
    "grud": grud_cases,
    "mingru": mingru_cases,
    "minlstm": minlstm_cases,
    "rglru": rglru_cases,
    "s5": s5_cases,
    "mamba": mamba_cases,
    "mlstm": mlstm_cases,
    "gdn": gdn_cases,
    "deltanet": deltanet_cases,
    "retention": retention_cases,
    "convlstm": convlstm_cases,
}


def main() -> None:
    """Save the goldens of the sources named on the command line, or of all."""
    torch.set_default_dtype(torch.float64)
    records: Arrays = {}
    if OUT.exists():
        with np.load(OUT) as stored:
            records = dict(stored)
    for name in sys.argv[1:] or SOURCES:
        built = SOURCES[name]()
        records |= {case: record(arrays) for case, arrays in built.items()}
        print(f"{name}: {len(built)} cases")
    np.savez_compressed(OUT, **dict(sorted(records.items())))
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
