"""Layers side by side: each reads the same inputs."""

from __future__ import annotations

import dataclasses

import jax

from seqcells import _check
from seqcells._layer import Layer, Start, Time
from seqcells._model import Model, is_function, leading, one_input
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params
from seqcells.layers._parts import MERGES, Merge, merged, parts, settle_layers, split


@dataclasses.dataclass(frozen=True)
class Parallel(Layer):
    """Layers that read the same inputs, and whose outputs are merged.

    Parameters and carry are tuples with an entry per layer.

    Args:
        layers: layers or cells, at least one.
        merge: "concat", "sum", "mean", "mul", or a function of one array [T, *B, H] for each layer
            that returns one [T, *B, ...]. All but "concat" need equal output sizes.

    Raises:
        TypeError: if an entry is no layer or cell.
        ValueError: on an unknown merge, or in a call on outputs that it cannot merge.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Parallel((sc.GRU(4), sc.Dense(3, "tanh")))
    >>> carry, ys = sc.unroll(net, net.init(jax.random.key(0), 2), jnp.ones((5, 3, 2)))
    >>> ys.shape
    (5, 3, 7)
    """

    layers: tuple[Model, ...]
    merge: str | Merge = "concat"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", settle_layers(self.layers))
        if not is_function(self.merge):
            _check.choice("merge", self.merge, MERGES)

    @property
    def reader(self) -> Model:
        """The first layer."""
        return self.layers[0]

    def init(self, key: jax.Array, input_size: InputSize) -> tuple[Params, ...]:
        """Make parameters for every layer."""
        _check.key("key", key)
        keys = jax.random.split(key, len(self.layers))
        return tuple(layer.init(k, input_size) for layer, k in zip(self.layers, keys, strict=True))

    def init_carry(self, x: Inputs, params: tuple[Params, ...] | None = None) -> tuple[Carry, ...]:
        """Make the first carry of every layer."""
        x, rows = one_input(self, x), zip(self.layers, self._parts(params), strict=True)
        return tuple(layer.resolve(x).init_carry(x, own) for layer, own in rows)

    def check_params(self, params: tuple[Params, ...], input_size: InputSize) -> None:
        """Raise a ValueError unless `params` are a tuple with an entry that fits each layer."""
        for layer, own in zip(self.layers, self._parts(params), strict=True):
            layer.check_params(own, input_size)

    def run(
        self,
        params: tuple[Params, ...],
        xs: Inputs,
        start: Start,
        time: Time,
        key: jax.Array | None,
    ) -> tuple[tuple[Carry, ...], Outputs]:
        """Run every layer on xs and merge the outputs."""
        carries, outputs = [], {}
        keys = split(key, len(self.layers))
        rows = zip(self.layers, self._parts(params), *start, keys, strict=True)
        for i, (layer, own, carry, fresh, k) in enumerate(rows):
            end, outputs[f"layers[{i}]"] = time.run(layer, own, xs, Start(carry, fresh), k)
            carries.append(end)
        return tuple(carries), time.silence(merged(self.merge, outputs, leading(self, xs)))

    def _parts(self, params: tuple[Params, ...] | None) -> tuple[Params, ...]:
        return parts("params", params, len(self.layers), self)
