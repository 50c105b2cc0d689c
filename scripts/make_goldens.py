"""Run the real frameworks and save their results, for `tests/interop/test_goldens.py`.

    pip install torch keras dm-haiku equinox flax onnx onnxruntime flashrnn speechbrain
    python scripts/make_goldens.py [NAME ...]

The script writes tests/goldens/NAME.npz, with the framework's own arrays, the input, the outputs
and the final carries of every case. All are float64, except that ONNX Runtime has float32 only.
Weights are multiples of 1/64, so that the files are small. Inputs are [T, B, D], outputs [T, B, H]
with zeros at padding; carries are in the order (h, c), layer by layer, forward before backward.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np

Module = Any  # a module or cell of a framework, which may lack types
Option = Any  # an argument of such a module
Tree = Any  # a pytree of arrays
Tensor = Any  # an array of a framework

T, B, D, H = 5, 2, 3, 4
LENGTHS = np.array([5, 3])
OUT = Path(__file__).parents[1] / "tests" / "goldens"


class Case(NamedTuple):
    """The weights and lengths of one model, and what it computed from `XS`."""

    arrays: dict[str, np.ndarray]  # {the framework's name: array}
    ys: Tensor  # [T, B, ...]
    carry: Sequence[Tensor]  # [B, H] each
    lengths: np.ndarray | None = None


def draw(seed: int, *shape: int) -> np.ndarray:
    """Draw multiples of 1/64 from [-1, 1]."""
    return np.random.default_rng(seed).integers(-64, 65, shape) / 64


XS = draw(0, T, B, D)
VALID = np.arange(T)[:, None, None] < LENGTHS[:, None]  # [T, B, 1]


def fill(tree: Tree) -> Tree:
    """Return the tree with new random weights, each leaf from its own seed."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten([jnp.asarray(draw(i + 1, *a.shape)) for i, a in enumerate(leaves)])


def names(tree: Tree, separator: str = "/") -> dict[str, np.ndarray]:
    """Return the leaves of a tree by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator=separator): np.asarray(leaf)
        for path, leaf in leaves
    }


def torch_cases() -> dict[str, Case]:
    """Run nn.GRU, nn.LSTM, nn.RNN and their cells."""
    import torch

    def run(cls: str, lengths: np.ndarray | None = None, **options: Option) -> Case:
        net = getattr(torch.nn, cls)(D, H, dtype=torch.float64, **options)
        arrays = {k: draw(i, *v.shape) for i, (k, v) in enumerate(net.state_dict().items())}
        net.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()})
        xs: Tensor = torch.tensor(XS)
        with torch.no_grad():
            if "Cell" in cls:
                ys, carry = cell(net, xs)
            else:
                pack = torch.nn.utils.rnn.pack_padded_sequence
                xs = xs if lengths is None else pack(xs, lengths, enforce_sorted=False)
                ys, carry = net(xs)
        if lengths is not None:
            ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys)
        both = carry if isinstance(carry, tuple) else (carry,)
        flat = [a for pair in zip(*both, strict=True) for a in pair] if "Cell" not in cls else both
        return Case(arrays, ys, list(flat), lengths)

    def cell(net: Module, xs: Tensor) -> tuple[Tensor, Tree]:
        ys, carry = [], None
        for x in xs:
            carry = net(x, carry)
            ys.append(carry[0] if isinstance(carry, tuple) else carry)
        return torch.stack(ys), carry

    cases = {}
    for cls in ("GRU", "LSTM", "RNN"):
        name = cls.lower()
        cases[name] = run(cls)
        cases[f"{name}-nobias"] = run(cls, bias=False)
        cases[f"{name}-cell"] = run(f"{cls}Cell")
        both = {"num_layers": 2, "bidirectional": True}
        cases[f"{name}-deep"] = run(cls, **both)
        cases[f"{name}-deep-nobias"] = run(cls, bias=False, **both)
        cases[f"{name}-deep-lengths"] = run(cls, LENGTHS, **both)
    cases["rnn-relu"] = run("RNN", nonlinearity="relu")
    project: Option = {"proj_size": 2}
    cases["lstm-proj"] = run("LSTM", **project)
    cases["lstm-proj-nobias"] = run("LSTM", bias=False, **project)
    cases["lstm-proj-deep"] = run("LSTM", num_layers=2, bidirectional=True, **project)
    cases["lstm-proj-deep-lengths"] = run("LSTM", LENGTHS, num_layers=3, **project)
    return cases


def steps(
    step: Callable[[Tree, Tensor], tuple[Tree, Tensor]], carry: Tree, xs: Iterable[Tensor]
) -> tuple[Tree, list[Tensor]]:
    """Unroll a cell of a framework that has no layer."""
    ys = []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, ys


def exact_tanh(x: jax.Array) -> jax.Array:
    """Compute tanh in the dtype of x."""
    return jnp.tanh(x)


def exact_relu(x: jax.Array) -> jax.Array:
    """Compute ReLU in the dtype of x."""
    return jnp.maximum(x, 0)


def keras_cases() -> dict[str, Case]:
    """Run GRU, LSTM, SimpleRNN, Bidirectional and Sequential.

    Keras repeats the last output at padding, which is set to zero here.
    """
    import keras

    keras.backend.set_floatx("float64")
    known = keras.saving.register_keras_serializable()  # Bidirectional copies a layer by name
    tanh = {"activation": known(exact_tanh)}  # Keras's own activation rounds to float32 on JAX
    relu, layers = known(exact_relu), keras.layers

    def run(make: Callable[..., Module], lengths: np.ndarray | None = None) -> Case:
        keras.backend.clear_session()  # so that numbering of names restarts
        layer = make(return_sequences=True, return_state=True)
        mask = None if lengths is None else jnp.asarray(VALID[..., 0].T)
        xs = jnp.asarray(XS.swapaxes(0, 1))
        layer(xs)
        layer.set_weights([draw(i, *w.shape) for i, w in enumerate(layer.weights)])
        ys, *carry = layer(xs, mask=mask)
        ys = np.asarray(ys).swapaxes(0, 1)
        arrays = {w.path: w.numpy() for w in layer.weights}
        return Case(arrays, ys if lengths is None else ys * VALID, carry, lengths)

    def deep() -> Case:
        keras.backend.clear_session()
        both = layers.Bidirectional(layers.GRU(H, return_sequences=True, **tanh))
        net = keras.Sequential(
            [layers.GRU(H, return_sequences=True, **tanh), both, layers.LSTM(H, **tanh)]
        )
        xs = jnp.asarray(XS.swapaxes(0, 1))
        net(xs)
        net.set_weights([draw(i, *w.shape) for i, w in enumerate(net.weights)])
        arrays = {w.path: w.numpy() for w in net.weights}
        return Case(arrays, np.asarray(net(xs))[None], [])  # only the last output

    def both(cls: Module, merge: str = "concat", **more: Option) -> Callable[..., Module]:
        return lambda **o: layers.Bidirectional(cls(H, **(tanh | more), **o), merge_mode=merge)

    def one(cls: Module, **more: Option) -> Callable[..., Module]:
        return lambda **o: cls(H, **(tanh | more), **o)

    gru, lstm, rnn = layers.GRU, layers.LSTM, layers.SimpleRNN
    return {
        "gru": run(one(gru)),
        "gru-before": run(one(gru, reset_after=False)),
        "gru-nobias": run(one(gru, use_bias=False)),
        "gru-before-nobias": run(one(gru, reset_after=False, use_bias=False)),
        "gru-cell": run(lambda **o: layers.RNN(layers.GRUCell(H, **tanh), **o)),
        "gru-lengths": run(one(gru), LENGTHS),
        "gru-both-lengths": run(both(gru), LENGTHS),
        "gru-before-both-sum": run(both(gru, "sum", reset_after=False)),
        "lstm": run(one(lstm)),
        "lstm-nobias": run(one(lstm, use_bias=False)),
        "lstm-both-ave": run(both(lstm, "ave")),
        "rnn": run(one(rnn)),
        "rnn-relu-nobias": run(one(rnn, activation=relu, use_bias=False)),
        "rnn-both-mul": run(both(rnn, "mul")),
        "deep": deep(),
    }


def ours(carry: Tree) -> list[Tensor]:
    """Return Flax's carry in our order: (c, h) as (h, c)."""
    if isinstance(carry, tuple):
        return [carry[1], carry[0]]
    return [carry]


def linen_cases() -> dict[str, Case]:
    """Run nn.RNN over each cell, nn.Bidirectional and nn.Sequential."""
    from flax import linen as nn

    xs, f64 = XS.swapaxes(0, 1), {"param_dtype": jnp.float64}  # also of the carry

    def run(module: nn.Module, lengths: np.ndarray | None = None) -> Case:
        variables = fill(module.init(jax.random.key(0), xs))
        carry, ys = module.apply(variables, xs, seq_lengths=lengths, return_carry=True)
        ys = np.asarray(ys).swapaxes(0, 1)
        both = isinstance(module, nn.Bidirectional)
        carry = [a for c in carry for a in ours(c)] if both else ours(carry)
        return Case(names(variables), ys if lengths is None else ys * VALID, carry, lengths)

    def deep() -> Case:
        both = nn.Bidirectional(nn.RNN(nn.GRUCell(H, **f64)), nn.RNN(nn.GRUCell(H, **f64)))
        net = nn.Sequential([nn.RNN(nn.LSTMCell(H, **f64)), both])
        variables = fill(net.init(jax.random.key(0), xs))
        return Case(names(variables), np.asarray(net.apply(variables, xs)).swapaxes(0, 1), [])

    def cell(module: nn.RNNCellBase) -> Case:
        start = module.initialize_carry(jax.random.key(0), (B, D))
        variables = fill(module.init(jax.random.key(0), start, XS[0]))
        carry, ys = steps(lambda c, x: module.apply(variables, c, x), start, XS)
        return Case(names(variables), ys, ours(carry))

    both = nn.Bidirectional(nn.RNN(nn.GRUCell(H, **f64)), nn.RNN(nn.GRUCell(H, **f64)))
    return {
        "gru": run(nn.RNN(nn.GRUCell(H, **f64))),
        "gru-cell": cell(nn.GRUCell(H, **f64)),
        "gru-lengths": run(nn.RNN(nn.GRUCell(H, **f64)), LENGTHS),
        "gru-reverse": run(nn.RNN(nn.GRUCell(H, **f64), reverse=True, keep_order=True)),
        "gru-both-lengths": run(both, LENGTHS),
        "mgu": run(nn.RNN(nn.MGUCell(H, **f64))),
        "lstm": run(nn.RNN(nn.LSTMCell(H, **f64))),
        "lstm-optimized": run(nn.RNN(nn.OptimizedLSTMCell(H, **f64))),
        "rnn": run(nn.RNN(nn.SimpleCell(H, **f64))),
        "rnn-relu": run(nn.RNN(nn.SimpleCell(H, **f64, activation_fn=nn.relu))),
        "deep": deep(),
    }


def nnx_cases() -> dict[str, Case]:
    """Run nnx.RNN over each cell, nnx.Bidirectional and nnx.Sequential."""
    from flax import nnx

    rngs, xs = nnx.Rngs(0), jnp.asarray(XS.swapaxes(0, 1))

    def rnn(cls: Callable[..., Module], size: int = D, **options: Option) -> nnx.RNN:
        return nnx.RNN(cls(size, H, rngs=rngs, param_dtype=jnp.float64, **options), rngs=rngs)

    def run(module: Module, lengths: np.ndarray | None = None) -> Case:
        state = nnx.state(module, nnx.Param)
        arrays = fill(nnx.to_pure_dict(state))
        nnx.replace_by_pure_dict(state, arrays)
        nnx.update(module, state)
        carry: Tree = []
        if isinstance(module, nnx.Sequential):
            ys = module(xs)
        else:
            carry, ys = module(xs, seq_lengths=lengths, return_carry=True)
            both = isinstance(module, nnx.Bidirectional)
            carry = [a for c in carry for a in ours(c)] if both else ours(carry)
        ys = np.asarray(ys).swapaxes(0, 1)
        return Case(names(arrays), ys if lengths is None else ys * VALID, carry, lengths)

    gru, lstm = nnx.GRUCell, nnx.LSTMCell
    return {
        "gru": run(rnn(gru)),
        "gru-lengths": run(rnn(gru), LENGTHS),
        "gru-both": run(nnx.Bidirectional(rnn(gru), rnn(gru))),
        "lstm": run(rnn(lstm)),
        "lstm-optimized": run(rnn(nnx.OptimizedLSTMCell)),
        "rnn": run(rnn(nnx.SimpleCell, dtype=jnp.float64)),
        "rnn-relu": run(rnn(nnx.SimpleCell, dtype=jnp.float64, activation_fn=jax.nn.relu)),
        "deep": run(nnx.Sequential(rnn(lstm), nnx.Bidirectional(rnn(gru, H), rnn(gru, H)))),
    }


def haiku_cases() -> dict[str, Case]:
    """Run hk.dynamic_unroll over each core, and over a DeepRNN."""
    import haiku as hk

    def run(make: Callable[[], hk.RNNCore], reverse: bool = False) -> Case:
        def net(xs: jax.Array) -> Tree:
            core = make()
            return hk.dynamic_unroll(core, xs, core.initial_state(B), reverse=reverse)

        f = hk.without_apply_rng(hk.transform(net))
        params = fill(f.init(jax.random.key(0), XS))
        ys, carry = f.apply(params, XS)
        return Case(names(params), ys, jax.tree.leaves(carry))  # LSTMState is (hidden, cell)

    return {
        "gru": run(lambda: hk.GRU(H)),
        "gru-reverse": run(lambda: hk.GRU(H), reverse=True),
        "lstm": run(lambda: hk.LSTM(H)),
        "rnn": run(lambda: hk.VanillaRNN(H)),
        "rnn-one-bias": run(lambda: hk.VanillaRNN(H, double_bias=False)),
        "deep": run(lambda: hk.DeepRNN([hk.LSTM(H), hk.GRU(H), hk.LSTM(H)])),
    }


def equinox_cases() -> dict[str, Case]:
    """Step GRUCell, LSTMCell and a tuple of them by hand."""
    import equinox as eqx

    def run(*cells: Module) -> Case:
        cells = fill(cells)
        xs = jnp.asarray(XS)
        carries = []
        for cell in cells:
            zero = jnp.zeros((B, H))
            pair = isinstance(cell, eqx.nn.LSTMCell)
            carry, ys = steps(
                lambda c, x, cell=cell, pair=pair: _both(jax.vmap(cell)(x, c), pair),
                (zero, zero) if pair else zero,
                xs,
            )
            xs = jnp.stack(ys)
            carries += carry if pair else [carry]
        return Case(names(cells if len(cells) > 1 else cells[0], "."), xs, carries)

    def _both(carry: Tree, pair: bool) -> tuple[Tree, jax.Array]:
        return carry, carry[0] if pair else carry

    def make(cls: type[Module], size: int = D, **options: Option) -> Module:
        return cls(size, H, key=jax.random.key(0), **options)

    gru, lstm = eqx.nn.GRUCell, eqx.nn.LSTMCell
    return {
        "gru": run(make(gru)),
        "gru-nobias": run(make(gru, use_bias=False)),
        "lstm": run(make(lstm)),
        "lstm-nobias": run(make(lstm, use_bias=False)),
        "deep": run(make(gru), make(lstm, H), make(gru, H)),
    }


def onnx_cases() -> dict[str, Case]:
    """Run GRU, LSTM and RNN: ONNX Runtime in float32, the reference evaluator in float64."""
    import onnx.reference
    import onnxruntime
    from onnx import helper

    def run(
        op: str, directions: int = 1, bias: bool = True, exact: bool = False, **more: Option
    ) -> Case:
        gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
        kind = np.float64 if exact else np.float32
        shapes = {"W": (gates * H, D), "R": (gates * H, H)}
        shapes |= {"B": (2 * gates * H,)} if bias else {}
        lengths = more.pop("lengths", None)
        shapes |= {"P": (3 * H,)} if more.pop("peepholes", False) else {}
        arrays = {
            k: draw(i, directions, *s).astype(kind) for i, (k, s) in enumerate(shapes.items())
        }
        feed = {"X": XS.astype(kind)} | arrays
        if lengths is not None:
            feed["L"] = lengths.astype(np.int32)
        slots = {"X": "X", "W": "W", "R": "R", "B": "B", "L": "L", "h": "", "c": "", "P": "P"}
        slots = {k: v if k in feed else "" for k, v in slots.items()}
        if op != "LSTM":
            del slots["c"], slots["P"]
        outs = ["Y", "Yh", "Yc"] if op == "LSTM" else ["Y", "Yh"]
        inputs = list(slots.values())
        while not inputs[-1]:
            inputs.pop()
        node = helper.make_node(op, inputs, outs, hidden_size=H, **more)
        ys, *carry = evaluate(node, feed, outs, exact)
        ys = ys.swapaxes(1, 2).reshape(T, B, directions * H)  # [T, directions, B, H]
        flat = [c[i] for i in range(directions) for c in carry]
        return Case(arrays, ys, flat, lengths)

    def evaluate(
        node: onnx.NodeProto, feed: dict[str, np.ndarray], outs: list[str], exact: bool
    ) -> list[np.ndarray]:
        kinds = {k: helper.np_dtype_to_tensor_dtype(a.dtype) for k, a in feed.items()}
        make = helper.make_tensor_value_info
        ins = [make(k, kinds[k], a.shape) for k, a in feed.items()]
        graph = helper.make_graph([node], "g", ins, [make(o, kinds["X"], None) for o in outs])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        if exact:
            return onnx.reference.ReferenceEvaluator(model).run(outs, feed)
        return onnxruntime.InferenceSession(model.SerializeToString()).run(outs, feed)

    return {
        "gru-after": run("GRU", linear_before_reset=1),
        "gru-before": run("GRU"),
        "gru-after-exact": run("GRU", exact=True, linear_before_reset=1),
        "gru-before-exact": run("GRU", exact=True),
        "gru-before-nobias": run("GRU", bias=False),
        "gru-after-both-lengths": run(
            "GRU", 2, lengths=LENGTHS, direction="bidirectional", linear_before_reset=1
        ),
        "gru-reverse": run("GRU", direction="reverse"),
        "lstm": run("LSTM"),
        "lstm-exact": run("LSTM", exact=True),
        "lstm-peepholes": run("LSTM", peepholes=True),
        "lstm-peepholes-exact": run("LSTM", peepholes=True, exact=True),
        "lstm-peepholes-both": run("LSTM", 2, peepholes=True, direction="bidirectional"),
        "lstm-nobias": run("LSTM", bias=False),
        "rnn": run("RNN"),
        "rnn-exact": run("RNN", exact=True),
        "rnn-relu-both": run("RNN", 2, direction="bidirectional", activations=["Relu", "Relu"]),
    }


def flashrnn_cases() -> dict[str, Case]:
    """Run flashrnn's sLSTM in plain PyTorch."""
    import torch
    from flashrnn import flashrnn

    shapes = {"W": (4, 2, H // 2, D), "R": (4, 2, H // 2, H // 2), "b": (4, 2, H // 2)}
    arrays = {name: draw(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    w, r, b = (torch.tensor(a) for a in arrays.values())
    wx = torch.einsum("tbj,ghdj->btghd", torch.tensor(XS), w)
    options: Option = {"function": "slstm", "backend": "vanilla", "dtype": "float64"}
    states, last = flashrnn(wx, r, b, **options)  # [4, B, T, 2, H / 2], and the same with T = 1
    return {"slstm": Case(arrays, states[0].flatten(2).swapaxes(0, 1), list(last.flatten(2)))}


def speechbrain_cases() -> dict[str, Case]:
    """Run LiGRU, with batch norm as it is after training."""
    import torch
    from speechbrain.nnet.RNN import LiGRU

    def run(layer: bool = False, **options: Option) -> Case:
        net = LiGRU(H, (B, T, D), **options).double().eval()
        module = net.rnn[0] if layer else net
        arrays = module.state_dict()
        trained = [name for name in arrays if re.search("weight|norm.(bias|running)", name)]
        for i, name in enumerate(trained):
            positive = 1.5 if name.endswith("var") else 0
            arrays[name] = torch.tensor(draw(i, *arrays[name].shape) + positive)
        module.load_state_dict(arrays)
        with torch.no_grad():
            ys, carry = net(torch.tensor(XS).swapaxes(0, 1))
        both = options.get("bidirectional", False)  # it returns no last carry of the way back
        ones = {name: a[:1] for name, a in arrays.items() if name.endswith("drop_masks")}
        arrays = {name: a.numpy() for name, a in (arrays | ones).items()}
        return Case(arrays, ys.swapaxes(0, 1), [] if both else list(carry))

    return {
        "ligru": run(),
        "ligru-layer-tanh": run(layer=True, nonlinearity="tanh"),
        "ligru-deep": run(num_layers=2, bidirectional=True),
    }


def save(name: str, cases: dict[str, Case]) -> None:
    """Write one framework's cases."""
    rows: dict[str, np.ndarray] = {}
    for label, case in cases.items():
        rows |= {f"{label}|w|{k}": np.asarray(a) for k, a in case.arrays.items()}
        rows |= {f"{label}|carry|{i}": np.asarray(a) for i, a in enumerate(case.carry)}
        rows[f"{label}|ys"] = np.asarray(case.ys)
        if case.lengths is not None:
            rows[f"{label}|lengths"] = case.lengths
    np.savez_compressed(OUT / f"{name}.npz", xs=XS, **rows)
    print(f"{name}: {len(cases)} cases, {(OUT / f'{name}.npz').stat().st_size} bytes")


FRAMEWORKS = {
    "torch": (torch_cases, ("torch",)),
    "keras": (keras_cases, ("keras", "jax")),
    "linen": (linen_cases, ("flax", "jax")),
    "nnx": (nnx_cases, ("flax", "jax")),
    "haiku": (haiku_cases, ("dm-haiku", "jax")),
    "equinox": (equinox_cases, ("equinox", "jax")),
    "onnx": (onnx_cases, ("onnx", "onnxruntime")),
    "flashrnn": (flashrnn_cases, ("flashrnn", "torch")),
    "speechbrain": (speechbrain_cases, ("speechbrain", "torch")),
}


def main() -> None:
    """Save the goldens of the frameworks named on the command line, or of all."""
    jax.config.update("jax_enable_x64", True)
    OUT.mkdir(exist_ok=True)
    versions = OUT / "versions.json"
    known = json.loads(versions.read_text("utf-8")) if versions.exists() else {}
    for name in sys.argv[1:] or FRAMEWORKS:
        make, packages = FRAMEWORKS[name]
        save(name, make())
        known |= {package: importlib.metadata.version(package) for package in packages}
    versions.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
