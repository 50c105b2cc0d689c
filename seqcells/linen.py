"""Any cell or layer as a `flax.linen` module."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Carry, Cell, param_shapes
from seqcells.layers import Layer, call


class RNN(nn.Module):
    """A cell or a layer as a linen module; `apply` is `seqcells.unroll`, or `apply` of the layer.

    Every parameter is one of the module under its own name: w_ih, w_hh, ...; 0.w_ih in a `Stack`.

    Args:
        cell: any cell or layer, for instance `seqcells.GRU(64)`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> rnn = sc.linen.RNN(sc.GRU(64))
    >>> xs = jnp.ones((20, 4, 8))
    >>> variables = rnn.init(jax.random.key(0), xs)
    >>> carry, ys = rnn.apply(variables, xs)
    >>> carry.shape, ys.shape
    ((4, 64), (20, 4, 64))
    """

    cell: Cell | Layer

    @nn.compact
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
        input_size = jnp.shape(xs)[-1]
        _check.instance("cell", self.cell, (Cell, Layer), "GRU(64)")
        # Drawn where a parameter is missing, so also by an `apply` that may make parameters.
        if self.is_mutable_collection("params") and not self.variables.get("params"):
            made = self.cell.init(self.make_rng("params"), input_size)
        else:
            made = param_shapes(self.cell, input_size)

        def stored(path: tuple[Any, ...], leaf: Any) -> Any:
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
            return self.param(name, lambda _: leaf)

        params = jax.tree_util.tree_map_with_path(stored, made)
        return call(self.cell, params, xs, carry, **flags)
