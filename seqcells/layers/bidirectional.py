"""Two cells that read each sequence in opposite directions."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer, Start, Time
from seqcells._model import is_function, leading
from seqcells._static import exported
from seqcells._types import Inputs, InputSize, PyTree
from seqcells.layers._parts import MERGES, Merge, merged, parts, split
from seqcells.layers.recurrent import Recurrent


@exported
class Both(NamedTuple):
    """A value for each of the two directions of a `Bidirectional`."""

    forward: PyTree
    backward: PyTree


@dataclasses.dataclass(frozen=True)
class Bidirectional(Layer):
    """Two cells, one of which reads each sequence in reverse (Schuster & Paliwal 1997).

    Parameters and carry are `Both`. It cannot step, because the backward cell starts at the end.

    Args:
        forward: a cell, or a `Recurrent` that reads forward.
        backward: the same for the other direction. None means the configuration of `forward`, with
            separate parameters.
        merge: "concat", "sum", "mean", "mul", or a function of two arrays [T, *B, H] that returns
            one [T, *B, ...]. For "sum", "mean" and "mul", both directions need equal output sizes.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> layer = sc.Bidirectional(sc.LSTM(4))
    >>> carry, ys = sc.unroll(layer, layer.init(jax.random.key(0), 2), jnp.ones((5, 3, 2)))
    >>> ys.shape
    (5, 3, 8)
    """

    forward: Cell | Recurrent
    backward: Cell | Recurrent | None = None
    merge: str | Merge = "concat"

    def __post_init__(self) -> None:
        if not is_function(self.merge):
            _check.choice("merge", self.merge, MERGES)
        _ = self.ways  # which checks them

    @property
    def ways(self) -> Both:
        """The two layers; the second reads in reverse."""
        forward = _recurrent(self.forward)
        backward = forward if self.backward is None else _recurrent(self.backward)
        return Both(
            dataclasses.replace(forward, reverse=False), dataclasses.replace(backward, reverse=True)
        )

    @property
    def reader(self) -> Cell | Recurrent:
        """The forward cell."""
        return self.forward

    def init(self, key: jax.Array, input_size: InputSize) -> Both:
        """Make parameters for both directions."""
        keys = jax.random.split(key)
        return Both(*(way.init(k, input_size) for way, k in zip(self.ways, keys, strict=True)))

    def init_carry(self, x: Inputs, params: Both | None = None) -> Both:
        """Make the first carries of both directions."""
        pairs = zip(self.ways, parts("params", params, 2, self), strict=True)
        return Both(*(way.init_carry(x, own) for way, own in pairs))

    def check_params(self, params: Both, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` fit both directions."""
        for way, own in zip(self.ways, parts("params", params, 2, self), strict=True):
            way.check_params(own, input_size)

    def run(
        self, params: Both, xs: Inputs, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Both, jax.Array]:
        """Run both directions and merge their outputs."""
        owns = parts("params", params, 2, self)
        (one, ahead), (two, back) = (
            time.run(way, own, xs, Start(carry, fresh), k)
            for way, own, carry, fresh, k in zip(
                self.ways, owns, *start, split(key, 2), strict=True
            )
        )
        outputs = {"forward": ahead, "backward": back}
        return Both(one, two), time.silence(merged(self.merge, outputs, leading(self, xs)))


def _recurrent(way: Cell | Recurrent) -> Recurrent:
    layer = Recurrent(way) if isinstance(way, Cell) else way
    _check.instance("forward, backward", layer, Recurrent, "Recurrent(GRU(64))")
    return layer
