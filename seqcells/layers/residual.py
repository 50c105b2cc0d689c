"""A connection around a layer or cell."""

from __future__ import annotations

import dataclasses

import jax

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer, Start, Time, output_shapes
from seqcells._model import Model, known_shapes, one_input
from seqcells._types import Carry, Inputs, InputSize, Params, Shaped
from seqcells.layers._parts import MERGES


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """A layer whose input is added to its output, or merged with it in another way.

    Args:
        layer: a layer or a cell; with as many outputs as inputs, unless `merge` is "concat".
        merge: "sum"; "mul", for a layer that gates its input; "mean"; or "concat", which puts the
            outputs of the layer before its inputs.
    """

    layer: Model
    merge: str = "sum"

    def __post_init__(self) -> None:
        _check.instance("layer", self.layer, (Layer, Cell), "Recurrent(GRU(64))")
        _check.choice("merge", self.merge, MERGES)

    @property
    def reader(self) -> Model:
        """The inner layer."""
        return self.layer

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Make the parameters of the layer."""
        x = self.zero_input(input_size)
        self._check_sum(output_shapes(self.layer, x, known_shapes(self.layer, input_size)), x)
        return self.layer.init(key, input_size)

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make the first carry of the layer."""
        x = one_input(self, x)
        return self.layer.resolve(x).init_carry(x, params)

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` fit the layer, and outputs have the inputs' shape."""
        self.layer.check_params(params, input_size)
        x = self.zero_input(input_size)
        self._check_sum(output_shapes(self.layer, x, params), x)

    def run(
        self, params: Params, xs: jax.Array, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Carry, jax.Array]:
        """Run the layer and merge its input."""
        carry, ys = time.run(self.layer, params, xs, start, key)
        self._check_sum(ys, xs)
        return carry, MERGES[self.merge](ys, time.silence(xs).astype(ys.dtype))

    def _check_sum(self, y: Shaped, x: Shaped) -> None:
        if self.merge == "concat":
            return
        one, two = (jax.tree.map(lambda a: a.shape, tree) for tree in (y, x))
        if one != two:
            if hasattr(y, "ndim") and hasattr(x, "ndim") and y.ndim == x.ndim > 0:
                one, two = y.shape[-1], x.shape[-1]
            got = f"{one} outputs for {two} inputs: {self.layer}"
            raise ValueError(f"layer: expected as many outputs as inputs, got {got}")
