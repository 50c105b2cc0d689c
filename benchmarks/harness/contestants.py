"""The contestants: one class per framework, which is imported on first use.

Each uses its usual layout, time first if the framework supports that without transposing, and the
faster cell if it has two. To add a contestant, add a subclass of `Peer` to this file.
"""

from __future__ import annotations

import abc
import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.extras import literal_type_from_choices

import seqcells as sc
from benchmarks.harness import machine, naive
from benchmarks.harness.pictures import INK
from benchmarks.harness.problem import CELLS, Inputs, Params, Shape
from benchmarks.harness.programs import Forward, Program, What, jax_program, training
from seqcells import interop

Cells = dict[str, Callable[[int], sc.Cell]]


def _single(hidden: int) -> sc.GRU:
    return sc.GRU(hidden, bias="single")


class Built(NamedTuple):
    """A contestant's model with its weights."""

    forward: Forward
    params: Params


class Peer(abc.ABC):
    """A framework that runs recurrent networks.

    Attributes:
        name: the name in tables and on the command line.
        module: the name of the module to import.
        package: the name of the package to install.
        colour: the colour in pictures; most are of Okabe and Ito, safe for colour blindness.
        cells: for each cell that it has, the cell of seqcells that computes the same function (its
            twin); outputs are compared with those of the twin.
        lighter: cells that do less work than those of the same name, and why; they are timed, but
            never count as the fastest.
        time_axis: the axis of time in its inputs and outputs.
        own_params: whether its parameters are those of seqcells; its gradients are then compared
            with ours.
        unroll: steps per iteration of its loop, if it has that option.
    """

    name: ClassVar[str]
    module: ClassVar[str] = "jax"
    package: ClassVar[str] = "jax"
    colour: ClassVar[str]
    cells: ClassVar[Cells] = CELLS
    lighter: ClassVar[dict[str, str]] = {}
    time_axis: ClassVar[int] = 0
    own_params: ClassVar[bool] = False
    unroll: ClassVar[int] = 1

    def load(self) -> ModuleType:
        """Import the framework."""
        return importlib.import_module(self.module)

    @abc.abstractmethod
    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""

    def place(self, xs: jax.Array) -> Inputs:
        """Convert xs [T, B, D] to the layout of the framework."""
        return jnp.swapaxes(xs, 0, self.time_axis)

    def outputs(self, built: Built, xs: Inputs) -> np.ndarray:
        """Compute ys [T, B, H]."""
        ys = jax.jit(built.forward)(built.params, xs)
        return np.swapaxes(np.asarray(ys), 0, self.time_axis)

    def program(self, built: Built, what: What, xs: Inputs) -> Program:
        """Build the program to time."""
        f = built.forward if what == "forward" else training(built.forward)
        return jax_program(f, built.params, xs)


class Seqcells(Peer):
    """This library with its default engine."""

    name = "seqcells"
    module = "seqcells"
    package = "seqcells"
    colour = INK

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        return Built(lambda params, xs: sc.unroll(twin, params, xs)[1], params)


class Split(Seqcells):
    """This library with the batch split over the cores, which are JAX devices."""

    name = "seqcells-cores"

    def program(self, built: Built, what: What, xs: Inputs) -> Program:
        """Build the program to time."""
        with jax.set_mesh(sc.cores(machine.cores())):
            return super().program(built, what, xs)


class Naive(Peer):
    """A scan written by hand."""

    name = "naive"
    colour = "#777777"  # grey
    own_params = True

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        return Built(functools.partial(self.run, type(twin).__name__), params)

    def run(self, kind: str, params: Params, xs: Inputs) -> jax.Array:
        """Compute ys [T, B, H]."""
        return naive.unroll(kind, params, xs, steps=self.unroll)


class NaiveUnrolled(Naive):
    """A scan written by hand, 8 steps per iteration."""

    name = "naive-unroll"
    unroll = 8


class NaiveRemat(Naive):
    """A scan written by hand whose backward pass recomputes each step from its carry."""

    name = "naive-remat"

    def run(self, kind: str, params: Params, xs: Inputs) -> jax.Array:
        """Compute ys [T, B, H]."""
        return naive.unroll(kind, params, xs, remat=True)


class NaiveColumns(Naive):
    """A scan written by hand over [H, B], with weights that are transposed once."""

    name = "naive-columns"

    def run(self, kind: str, params: Params, xs: Inputs) -> jax.Array:
        """Compute ys [T, B, H]."""
        return naive.unroll(kind, params, xs, naive.columns)


class NaiveJoined(Naive):
    """A scan written by hand with one product of input and carry."""

    name = "naive-joined"
    cells: ClassVar[Cells] = {name: CELLS[name] for name in ("RNN", "LSTM")}

    def run(self, kind: str, params: Params, xs: Inputs) -> jax.Array:
        """Compute ys [T, B, H]."""
        return naive.unroll(kind, params, xs, naive.joined)


class Linen(Peer):
    """flax.linen.RNN; for LSTM with its OptimizedLSTMCell."""

    name = "linen"
    module = "flax.linen"
    package = "flax"
    colour = "#0072B2"
    cells = CELLS | {"GRU": _single}
    names: ClassVar = {"RNN": "SimpleCell", "GRU": "GRUCell", "LSTM": "OptimizedLSTMCell"}

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        linen = self.load()
        cell = getattr(linen, self.names[type(twin).__name__])(shape.H)
        variables = interop.linen.dump(sc.Recurrent(twin), params)
        net = linen.RNN(cell, time_major=True, unroll=self.unroll)
        return Built(net.apply, jax.tree.map(jnp.asarray, variables))


class LinenUnrolled(Linen):
    """flax.linen.RNN with unroll=8."""

    name = "linen-unroll"
    unroll = 8


class NNX(Peer):
    """flax.nnx.RNN, split outside and merged inside of jit; for LSTM with its OptimizedLSTMCell."""

    name = "nnx"
    module = "flax.nnx"
    package = "flax"
    colour = "#56B4E9"
    cells = Linen.cells

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        nnx = self.load()
        rngs, name = nnx.Rngs(0), Linen.names[type(twin).__name__]
        cell = getattr(nnx, name)(shape.D, shape.H, rngs=rngs)
        net = nnx.RNN(cell, time_major=True, unroll=self.unroll, rngs=rngs)
        return split_nnx(net, twin, params)


class NNXUnrolled(NNX):
    """flax.nnx.RNN with unroll=8."""

    name = "nnx-unroll"
    unroll = 8


def split_nnx(net: Callable, twin: sc.Cell, params: Params) -> Built:
    """Load the weights of a twin into an nnx.RNN; split it into a function and its parameters.

    The function passes further keyword arguments on to the module.
    """
    nnx = importlib.import_module("flax.nnx")
    graph, state, rest = nnx.split(net, nnx.Param, ...)
    arrays = interop.nnx.dump(sc.Recurrent(twin), params, like=nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, arrays))

    def forward(params: Params, xs: Inputs, **options: jax.Array) -> jax.Array:
        own = jax.tree.map(lambda a: a, rest)  # counts made in this trace, which may change
        return nnx.merge(graph, params, own)(xs, **options)

    return Built(forward, state)


class Haiku(Peer):
    """hk.dynamic_unroll."""

    name = "haiku"
    module = "haiku"
    package = "dm-haiku"
    colour = "#E69F00"
    cells: ClassVar[Cells] = {
        "RNN": lambda hidden: sc.RNN(hidden, "relu"),
        "GRU": lambda hidden: sc.GRU(hidden, reset_after=False, bias="single"),
        "LSTM": sc.LSTM,
    }
    lighter: ClassVar = {"RNN": "ReLU instead of tanh, which it does not have"}
    names: ClassVar = {"RNN": "VanillaRNN", "GRU": "GRU", "LSTM": "LSTM"}

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        hk = self.load()
        make = getattr(hk, self.names[type(twin).__name__])

        def net(xs: Inputs) -> jax.Array:
            core = make(shape.H)
            start = core.initial_state(xs.shape[1])
            return hk.dynamic_unroll(core, xs, start, unroll=self.unroll)[0]

        arrays = jax.tree.map(jnp.asarray, interop.haiku.dump(twin, params))
        return Built(hk.without_apply_rng(hk.transform(net)).apply, arrays)


class HaikuUnrolled(Haiku):
    """hk.dynamic_unroll with unroll=8."""

    name = "haiku-unroll"
    unroll = 8


class Equinox(Peer):
    """A cell of Equinox in lax.scan, vmapped over axis 1 of the inputs, which is cheaper."""

    name = "equinox"
    module = "equinox"
    package = "equinox"
    colour = "#009E73"
    cells: ClassVar[Cells] = {"GRU": _single, "LSTM": sc.LSTM}

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        eqx, pair = self.load(), isinstance(twin, sc.LSTM)
        make = eqx.nn.LSTMCell if pair else eqx.nn.GRUCell
        arrays = interop.equinox.dump(twin, params)
        cell = eqx.tree_at(
            lambda cell: [getattr(cell, name) for name in arrays],
            make(shape.D, shape.H, key=jax.random.key(0)),
            [jnp.asarray(array) for array in arrays.values()],
        )
        weights, static = eqx.partition(cell, eqx.is_array)

        def one(weights: Params, xs: Inputs) -> jax.Array:
            cell, zeros = eqx.combine(weights, static), jnp.zeros(shape.H)

            def step(carry, x):
                carry = cell(x, carry)
                return carry, carry[0] if pair else carry

            start = (zeros, zeros) if pair else zeros
            return jax.lax.scan(step, start, xs, unroll=self.unroll)[1]

        return Built(jax.vmap(one, in_axes=(None, 1), out_axes=1), weights)


class EquinoxUnrolled(Equinox):
    """Equinox with unroll=8."""

    name = "equinox-unroll"
    unroll = 8


class Keras(Peer):
    """A layer of Keras on JAX, by stateless_call."""

    name = "keras"
    module = "keras"
    package = "keras"
    colour = "#CC79A7"
    time_axis = 1
    names: ClassVar = {"RNN": "SimpleRNN", "GRU": "GRU", "LSTM": "LSTM"}

    def load(self) -> ModuleType:
        """Import the framework, on JAX."""
        os.environ["KERAS_BACKEND"] = "jax"  # Keras reads this only when it is imported
        return super().load()

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        make = getattr(self.load().layers, self.names[type(twin).__name__])
        layer = make(shape.H, return_sequences=True)
        layer.build((shape.B, shape.T, shape.D))
        layer.set_weights(list(interop.keras.dump(twin, params).values()))
        rest = [v.value for v in layer.non_trainable_variables]
        weights = [v.value for v in layer.trainable_variables]
        return Built(lambda params, xs: layer.stateless_call(params, rest, xs)[0], weights)


class Torch(Peer):
    """nn.RNN, nn.GRU and nn.LSTM of PyTorch, eager, on the CPU."""

    name = "torch"
    module = "torch"
    package = "torch"
    colour = "#D55E00"

    def build(self, twin: sc.Cell, params: Params, shape: Shape) -> Built:
        """Build its model with the weights of the twin."""
        torch = self.load()
        torch.set_num_threads(machine.cores())  # torch may have been imported before
        net = getattr(torch.nn, type(twin).__name__)(shape.D, shape.H)
        arrays = interop.torch.dump(sc.Recurrent(twin), params)
        net.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
        return Built(lambda params, xs: net(xs)[0], list(net.parameters()))

    def place(self, xs: jax.Array) -> Inputs:
        """Make a tensor of xs [T, B, D]."""
        return self.load().tensor(np.asarray(xs))

    def outputs(self, built: Built, xs: Inputs) -> np.ndarray:
        """Compute ys [T, B, H]."""
        return self.program(built, "forward", xs).call().numpy()

    def program(self, built: Built, what: What, xs: Inputs) -> Program:
        """Build the program to time."""
        torch = self.load()

        def forward():
            with torch.inference_mode():
                return built.forward(built.params, xs)

        def train():
            loss = built.forward(built.params, xs).square().mean()
            return loss, torch.autograd.grad(loss, built.params)

        return Program(forward if what == "forward" else train)


def find_peers(base: type[Peer]) -> dict[str, Peer]:
    """Return a peer of each class that derives from `base`, by name.

    Raises:
        ValueError: if two classes have the same name.
    """
    found: dict[str, Peer] = {}
    for kind in base.__subclasses__():
        for peer in (kind(), *find_peers(kind).values()):
            other = found.setdefault(peer.name, peer)
            if other is not peer:
                raise ValueError(
                    f"name: expected different names, got {peer.name!r} for "
                    f"{type(other).__name__} and {type(peer).__name__}; rename one of them"
                )
    return found


OURS = Seqcells()
SPLIT = Split()
PEERS = {name: peer for name, peer in find_peers(Peer).items() if not isinstance(peer, Seqcells)}
COLOURS = {peer.name: peer.colour for peer in (OURS, SPLIT, *PEERS.values())}

if TYPE_CHECKING:
    PeerName = str
else:  # choices of the command line
    PeerName = literal_type_from_choices(PEERS)
