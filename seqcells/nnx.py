"""Any cell or layer as a `flax.nnx` module."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Carry, Cell, Params
from seqcells.layers import Layer, call


class RNN(nnx.Module):
    """A cell or a layer and its parameters as an nnx module.

    Calling it is `seqcells.unroll`, or `apply` of the layer.

    The call reads its parameters and changes nothing, so a closure over the module may be jitted
    and vmapped: `jax.jit(lambda xs: rnn(xs))`.

    Args:
        cell: any cell or layer, for instance `seqcells.GRU(64)`.
        input_size: features of the input, at least 0.
        rngs: where the key is drawn from: its stream `params`.

    Attributes:
        cell: the cell or layer.
        params: its parameters, every leaf an `nnx.Param`.

    >>> import jax.numpy as jnp, seqcells as sc
    >>> from flax import nnx
    >>> rnn = sc.nnx.RNN(sc.GRU(64), input_size=8, rngs=nnx.Rngs(0))
    >>> carry, ys = rnn(jnp.ones((20, 4, 8)))
    >>> carry.shape, ys.shape
    ((4, 64), (20, 4, 64))
    """

    def __init__(self, cell: Cell | Layer, input_size: int, *, rngs: nnx.Rngs) -> None:
        _check.instance("cell", cell, (Cell, Layer), "GRU(64)")
        self.cell = cell
        self.params = nnx.data(jax.tree.map(nnx.Param, cell.init(rngs.params(), input_size)))

    def __call__(self, xs: ArrayLike, carry: Carry = None, **flags: Any) -> tuple[Carry, Any]:
        """Unroll the cell over xs float[T, *B, D].

        Args:
            xs: the inputs, time first unless `time_axis` says otherwise.
            carry: the initial carry; a fresh one where None.
            **flags: `lengths`, `mask`, `resets`, `time_axis`, `key` and the others of
                `seqcells.unroll`, or of the layer's `apply`.

        Returns:
            The last carry, and ys [T, *B, H].
        """
        return call(self.cell, self.values, xs, carry, **flags)

    @property
    def values(self) -> Params:
        """The parameters as plain arrays, as `unroll` and the diagnostics take them."""
        return jax.tree.map(
            lambda param: param[...], self.params, is_leaf=lambda a: isinstance(a, nnx.Variable)
        )

    def load(self, params: Params) -> None:
        """Take parameters, as `values` gives them or `cell.init` makes them."""
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
