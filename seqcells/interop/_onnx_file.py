"""A whole net as one ONNX file; `seqcells.interop.onnx.model` is its public name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._layer import output_shapes
from seqcells._model import Model
from seqcells._types import InputSize, Params
from seqcells.layers import Bidirectional, Dense, Dropout, Embed, Norm, Recurrent, Residual, Stack

OPSET, IR = 17, 8  # opset of 2022; it contains every operator below
LAYERS = "Recurrent, Bidirectional, Stack, Residual, Dense, Norm, Embed, Dropout"


class Graph:
    """Nodes and weights of a graph, under construction."""

    def __init__(self, onnx: Any, lengths: str, dump: Callable, attributes: Callable):
        self.onnx, self.lengths, self.dump, self.attributes = onnx, lengths, dump, attributes
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.valid = ""  # bool[T, B, 1], if the file reads lengths
        self.carries: dict[str, list[Any]] = {}  # their shapes, by name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; return the name of its first output, from which other names are derived."""
        name = f"{operator}_{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, names, name, **attributes))
        return name

    def weight(self, name: str, array: Any) -> str:
        """Add an array."""
        self.weights[name] = np.asarray(array)
        return name

    def silence(self, ys: str) -> str:
        """Set padded steps to zero."""
        return (
            self.node("Where", self.valid, ys, self.weight("zero", np.float32(0)))
            if self.lengths
            else ys
        )

    def run(self, model: Model, params: Params, xs: str, path: str) -> str:
        """Add a model; return the name of its outputs."""
        if isinstance(model, Stack) and not model.skip and not model.tied:
            for i, (part, own) in enumerate(zip(model.layers, params, strict=True)):
                xs = self.run(part, own, xs, f"{path}{i}.")
            return xs
        if isinstance(model, Residual) and model.merge == "sum":
            return self.node("Add", self.run(model.layer, params, xs, path), xs)
        add = {Dense: self.dense, Norm: self.norm, Embed: self.embed, Dropout: self.dropout}
        if type(model) in add and getattr(model, "heads", 1) == 1:
            return self.silence(add[type(model)](model, params, xs, path))
        return self.recurrent(model, params, xs, path)

    def dense(self, model: Dense, params: Params, xs: str, path: str) -> str:
        """Add act(W x + b)."""
        ys = self.node("MatMul", xs, self.weight(f"{path}w", params.w))
        if params.b is not None:
            ys = self.node("Add", ys, self.weight(f"{path}b", params.b))
        return (
            ys if model.activation == "identity" else self.node(model.activation.capitalize(), ys)
        )

    def norm(self, model: Norm, params: Params, xs: str, path: str) -> str:
        """Add a normalisation of the last axis."""
        if model.kind == "layer":
            xs = self.node("Sub", xs, self.node("ReduceMean", xs, axes=[-1]))
        square = self.node("ReduceMean", self.node("Mul", xs, xs), axes=[-1])
        root = self.node(
            "Sqrt", self.node("Add", square, self.weight(f"{path}eps", np.float32(model.eps)))
        )
        ys = self.node("Mul", self.node("Div", xs, root), self.weight(f"{path}scale", params.scale))
        shift = params.shift
        return ys if shift is None else self.node("Add", ys, self.weight(f"{path}shift", shift))

    def embed(self, model: Embed, params: Params, xs: str, path: str) -> str:
        """Add a row for each symbol."""
        return self.node("Gather", self.weight(f"{path}w", params.w), xs, axis=0)

    def dropout(self, model: Dropout, params: Params, xs: str, path: str) -> str:
        """Add nothing, because the file is for evaluation."""
        return xs

    def recurrent(self, model: Model, params: Params, xs: str, path: str) -> str:
        """Add a GRU, LSTM or RNN node; its outputs have an axis of directions after time."""
        if not isinstance(model, Bidirectional | Recurrent) and not hasattr(model, "hidden_size"):
            raise ValueError(f"model: expected a net of cells that ONNX has, {LAYERS}, got {model}")
        arrays = self.dump(model, params)
        (attributes,) = self.attributes(model)
        names = {name: self.weight(f"{path}{name}", array) for name, array in arrays.items()}
        inputs = [xs, names["W"], names["R"], names.get("B", ""), self.lengths, "", ""]
        operator = attributes.pop("op_type")
        outputs = 3 if operator == "LSTM" else 2  # of all steps, then the last h and c
        if "P" in names:
            inputs.append(names["P"])
        while inputs[-1] == "":
            inputs.pop()
        ys = self.node(operator, *inputs, outputs=outputs, **attributes)
        ways = 2 if attributes["direction"] == "bidirectional" else 1
        shape = [ways, "B", attributes["hidden_size"]]
        self.carries |= {f"{ys}_{i}": shape for i in range(1, outputs)}
        ys = self.node("Transpose", ys, perm=[0, 2, 1, 3])
        return self.node("Reshape", ys, self.weight("flat", np.array([0, 0, -1])))


def write(
    model: Model,
    params: Params,
    input_size: InputSize,
    *,
    lengths: bool,
    dump: Callable,
    attributes: Callable,
) -> Any:
    """Build the file; see `seqcells.interop.onnx.model`."""
    onnx = _check.extra("onnx", "seqcells[onnx]")
    model.check_params(params, input_size)
    _check_floats(params)
    graph = Graph(onnx, "lengths" if lengths else "", dump, attributes)
    tokens = model.x_ndim == 0
    xs = _begin(graph, tokens)
    ys = graph.node("Identity", graph.run(model, params, xs, ""))
    carries = {graph.node("Identity", name): shape for name, shape in graph.carries.items()}
    names = {ys: "ys"} | {name: f"carry.{i}" for i, name in enumerate(carries)}
    for node in graph.nodes:
        node.output[:] = [names.get(name, name) for name in node.output]
    kinds, make = onnx.TensorProto, onnx.helper.make_tensor_value_info
    shape = ["T", "B"] if tokens else ["T", "B", input_size]
    inputs = [make("xs", kinds.INT64 if tokens else kinds.FLOAT, shape)]
    inputs += [make("lengths", kinds.INT32, ["B"])] * lengths
    size = output_shapes(model, model.zero_input(input_size), params).shape[-1]
    outputs = [make("ys", kinds.FLOAT, ["T", "B", size])]
    outputs += [make(names[name], kinds.FLOAT, shape) for name, shape in carries.items()]
    arrays = [onnx.numpy_helper.from_array(a, name) for name, a in graph.weights.items()]
    whole = onnx.helper.make_graph(graph.nodes, "seqcells", inputs, outputs, arrays)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    file = onnx.helper.make_model(
        whole, opset_imports=opset, ir_version=IR, producer_name="seqcells"
    )
    onnx.checker.check_model(file)
    return file


def _begin(graph: Graph, tokens: bool) -> str:
    """Compute the padding mask, and set the inputs there to zero."""
    if not graph.lengths:
        return "xs"
    zero, one = graph.weight("0", np.int64(0)), graph.weight("1", np.int64(1))
    steps = graph.node("Gather", graph.node("Shape", "xs"), zero)
    time = graph.node(
        "Unsqueeze", graph.node("Range", zero, steps, one), graph.weight("axis", np.array([1]))
    )
    valid = graph.node("Less", time, graph.node("Cast", "lengths", to=graph.onnx.TensorProto.INT64))
    graph.valid = graph.node("Unsqueeze", valid, graph.weight("last", np.array([2])))
    nothing = zero if tokens else graph.weight("zero", np.float32(0))
    return graph.node("Where", valid if tokens else graph.valid, "xs", nothing)


def _check_floats(params: Params) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jnp.result_type(leaf) != jnp.float32:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"params: expected float32, got {jnp.result_type(leaf)} in {name}")
