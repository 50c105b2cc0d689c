"""Layers, each applied to the output of the one before."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._layer import Layer, Start, Time, output_shapes, zeros_after
from seqcells._model import Model, known_shapes, leading, one_input
from seqcells._types import Carry, Inputs, InputSize, Params
from seqcells.layers._parts import parts, settle_layers, split
from seqcells.layers.dropout import drop
from seqcells.layers.embed import Embed


@dataclasses.dataclass(frozen=True)
class Stack(Layer):
    """Layers applied one after another. Parameters and carry are tuples with an entry per layer.

    Args:
        layers: layers or cells, at least one.
        dropout: share of the features between layers that are dropped, drawn anew at every step if
            there is a key; kept features are scaled by 1 / (1 - dropout).
        skip: whether every layer after the first also reads xs, and ys holds the outputs of all
            layers, concatenated (Haiku's `deep_rnn_with_skip_connections`).
        tied: whether the first layer, an `Embed`, also reads out: with its matrix E [vocabulary,
            size], ys are the logits E y_t of what the last layer puts out.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Stack((sc.GRU(4), sc.LSTM(3)), dropout=0.1)
    >>> params, xs = net.init(jax.random.key(0), input_size=2), jnp.ones((5, 3, 2))
    >>> carry, ys = sc.unroll(net, params, xs, key=jax.random.key(1))
    >>> carry, y = net.step(params, carry, xs[0], reset=jnp.array([True, False, False]))
    >>> ys.shape, y.shape
    ((5, 3, 3), (3, 3))
    """

    layers: tuple[Model, ...]
    dropout: float = 0.0
    skip: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", settle_layers(self.layers))
        _check.rate("dropout", self.dropout)
        _check.flag("skip", self.skip)
        if _check.flag("tied", self.tied) and not isinstance(self.layers[0], Embed):
            got = self.layers[0]
            raise ValueError(f"tied: expected an Embed as the first of the layers, got {got}")

    @property
    def reader(self) -> Model:
        """The first layer."""
        return self.layers[0]

    def init(self, key: jax.Array, input_size: InputSize) -> tuple[Params, ...]:
        """Make parameters for every layer."""
        built = []
        x = seen = self.zero_input(input_size)
        for i, k in enumerate(jax.random.split(key, len(self.layers))):
            layer = self.layers[i]
            built.append(layer.init(k, layer.input_size(seen) if built else input_size))
            seen = self._next(i, built[-1], seen, x)
        return tuple(built)

    def init_carry(self, x: Inputs, params: tuple[Params, ...] | None = None) -> tuple[Carry, ...]:
        """Make the first carry of every layer."""
        rows = self._rows(one_input(self, x), params)
        return tuple(layer.resolve(seen).init_carry(seen, own) for layer, own, seen in rows)

    def check_params(self, params: tuple[Params, ...], input_size: InputSize) -> None:
        """Raise a ValueError unless `params` are a tuple with an entry that fits each layer."""
        for layer, own, seen in self._rows(self.zero_input(input_size), params):
            layer.check_params(own, layer.input_size(seen))

    def _rows(
        self, x: Inputs, params: tuple[Params, ...] | None
    ) -> Iterator[tuple[Model, Params, Inputs]]:
        """Yield each layer with its parameters and zeros shaped like its input of one step."""
        seen = x
        for i, own in enumerate(self._parts("params", params)):
            layer = self.layers[i]
            yield layer, own, seen
            if i + 1 < len(self.layers):
                own = known_shapes(layer, layer.input_size(seen)) if params is None else own
                seen = self._next(i, own, seen, x)

    def _next(self, i: int, own: Params, seen: Inputs, x: Inputs) -> Inputs:
        """Return zeros shaped like the input of layer i + 1, given layer i's input `seen`."""
        layer, after = self.layers[i], self.layers[min(i + 1, len(self.layers) - 1)]
        y, axes = output_shapes(layer, seen, own), len(leading(layer, seen)) + after.x_ndim
        if any(leaf.ndim < axes for leaf in jax.tree.leaves(y)) and after is not layer:
            got = f"{_check.describe(y)} for inputs {_check.describe(seen)}"
            raise ValueError(
                f"layers: expected outputs of {layer} that {after} can read, [*B, D], got {got}"
            )
        return self._between(zeros_after(layer, seen, y), x, None)

    def run(
        self,
        params: tuple[Params, ...],
        xs: Inputs,
        start: Start,
        time: Time,
        key: jax.Array | None,
    ) -> tuple[tuple[Carry, ...], jax.Array]:
        """Run every layer on the output of the one before."""
        carries, outputs, seen = [], [], xs
        rows = zip(self.layers, self._parts("params", params), *start, strict=True)
        for (layer, own, carry, fresh), k in zip(rows, split(key, len(self.layers)), strict=True):
            k_layer, k_drop = split(k, 2)
            if outputs:
                seen = self._between(outputs[-1], xs, k_drop)
            end, ys = time.run(layer, own, seen, Start(carry, fresh), k_layer)
            carries.append(end)
            outputs.append(ys)
        ys = jnp.concatenate(outputs, axis=-1) if self.skip else outputs[-1]
        if isinstance(self.layers[0], Embed) and self.tied:
            ys = self.layers[0].logits(params[0], ys)
        return tuple(carries), ys

    def _parts(self, name: str, tree: tuple[Params, ...] | None) -> tuple[Params, ...]:
        return parts(name, tree, len(self.layers), self)

    def _between(self, ys: jax.Array, xs: jax.Array, key: jax.Array | None) -> jax.Array:
        """Return the input of a layer, from the outputs of the one before."""
        ys = drop(key, self.dropout, ys)
        return jnp.concatenate([ys, xs.astype(ys.dtype)], axis=-1) if self.skip else ys
