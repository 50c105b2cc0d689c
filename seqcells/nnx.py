"""Any cell or layer as a `flax.nnx` module."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params
from seqcells._unroll import unroll


class RNN(nnx.Module):
    """A cell or a layer and its parameters as an nnx module.

    Calling it is `seqcells.unroll`; `init_carry` and `step` are those of the cell or layer.

    No method changes the module, so a closure over it may be jitted and vmapped:
    `jax.jit(lambda xs: rnn(xs))`.

    Args:
        model: any cell or layer, for instance `seqcells.GRU(64)`.
        input_size: features of the input, at least 0.
        rngs: where the key is drawn from: its stream `params`.

    Attributes:
        model: the cell or layer.
        params: its parameters, every leaf an `nnx.Param`.

    >>> import jax.numpy as jnp, seqcells as sc
    >>> from flax import nnx
    >>> rnn = sc.nnx.RNN(sc.GRU(64), input_size=8, rngs=nnx.Rngs(0))
    >>> xs = jnp.ones((20, 4, 8))
    >>> carry, ys = rnn(xs)
    >>> carry, y = rnn.step(rnn.init_carry(xs[0]), xs[0])
    >>> carry.shape, ys.shape, y.shape
    ((4, 64), (20, 4, 64), (4, 64))
    """

    def __init__(self, model: Model, input_size: InputSize, *, rngs: nnx.Rngs) -> None:
        _check.instance("model", model, (Cell, Layer), "GRU(64)")
        self.model = model
        self.params = nnx.data(jax.tree.map(nnx.Param, model.init(rngs.params(), input_size)))

    def __call__(self, xs: Inputs, carry: Carry = None, **options: Any) -> tuple[Carry, Outputs]:
        """Run the model over xs float[T, *B, D].

        Args:
            xs: the inputs, time first unless `time_axis` says otherwise.
            carry: the initial carry; a fresh one if None.
            **options: `lengths`, `mask`, `resets`, `key` and the others of `seqcells.unroll`.

        Returns:
            The last carry, and ys [T, *B, H].
        """
        return unroll(self.model, self.values, xs, carry, **options)

    def init_carry(self, x: Inputs) -> Carry:
        """Make the carry with which a sequence starts, for one step's input x [*B, D]."""
        return self.model.init_carry(x, self.values)

    def step(
        self,
        carry: Carry,
        x: Inputs,
        reset: ArrayLike | None = None,
        *,
        reset_carry: Carry = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, Outputs]:
        """Take one step, as `step` of the cell or layer does."""
        return self.model.step(self.values, carry, x, reset, reset_carry=reset_carry, key=key)

    @property
    def values(self) -> Params:
        """The parameters as plain arrays, as `unroll` and the diagnostics take them."""
        return jax.tree.map(
            lambda param: param[...], self.params, is_leaf=lambda a: isinstance(a, nnx.Variable)
        )

    def load(self, params: Params) -> None:
        """Take parameters, as `values` gives them or `init` of the cell or layer makes them."""
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
