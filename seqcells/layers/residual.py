"""A layer or cell around which its input goes."""

from __future__ import annotations

import dataclasses

import jax

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer, Start, Time, output_shapes
from seqcells._model import Model, known_shapes
from seqcells._types import Carry, Inputs, InputSize, Params


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """A layer whose input is added to its output.

    Args:
        layer: a layer or a cell with as many outputs as inputs.
    """

    layer: Model

    def __post_init__(self) -> None:
        _check.instance("layer", self.layer, (Layer, Cell), "Recurrent(GRU(64))")

    @property
    def reader(self) -> Model:
        """The layer within."""
        return self.layer

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Make the parameters of the layer."""
        x = self.zero_input(input_size)
        shape = output_shapes(self.layer, x, known_shapes(self.layer, input_size)).shape
        if shape != x.shape:
            one = len(shape) == 1
            got = f"{shape[0] if one else shape} outputs for {input_size} inputs"
            raise ValueError(f"layer: expected as many outputs as inputs, got {got}: {self.layer}")
        return self.layer.init(key, input_size)

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make the first carry of the layer."""
        return self.layer.resolve(x).init_carry(x, params)

    def run(
        self, params: Params, xs: jax.Array, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Carry, jax.Array]:
        """Run the layer and add its input."""
        carry, ys = time.run(self.layer, params, xs, start, key)
        return carry, ys + time.silence(xs).astype(ys.dtype)
