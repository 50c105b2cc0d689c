"""Any cell or layer as a `flax.linen` module."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax.core import Tracer
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._inputs import time_first
from seqcells._layer import Layer
from seqcells._model import Model, one_input, param_shapes
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells._unroll import unroll


class RNN(nn.Module):
    """A cell or a layer as a linen module; `apply` is `seqcells.unroll`.

    Each parameter of the model is one of the module: w_ih, w_hh, ...; 0.w_ih in a `Stack`.

    Args:
        model: any cell or layer, for instance `seqcells.GRU(64)`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> rnn = sc.linen.RNN(sc.GRU(64))
    >>> xs = jnp.ones((20, 4, 8))
    >>> variables = rnn.init(jax.random.key(0), xs)
    >>> carry, ys = rnn.apply(variables, xs)
    >>> start = rnn.apply(variables, xs[0], method="init_carry")
    >>> carry, y = rnn.apply(variables, start, xs[0], method="step")
    >>> carry.shape, ys.shape, y.shape
    ((4, 64), (20, 4, 64), (4, 64))
    """

    model: Model

    def __call__(self, xs: Inputs, carry: Carry = None, **options: Any) -> tuple[Carry, Outputs]:
        """Run the model over xs float[T, *B, D].

        Args:
            xs: the inputs, time first unless `time_axis` says otherwise.
            carry: the initial carry; a fresh one if None.
            **options: `lengths`, `mask`, `resets`, `key` and the others of `seqcells.unroll`.

        Returns:
            The last carry, and ys [T, *B, H].
        """
        for name, example in (("reverse", True), ("time_axis", 1)):
            if isinstance(options.get(name), Tracer):
                raise TypeError(
                    f"{name}: expected a Python value, got a traced one, because nn.remat and "
                    f"nn.jit trace all arguments; wrap a function instead: "
                    f"nn.remat(lambda rnn, xs: rnn(xs, {name}={example}))(rnn, xs)"
                )
        arrays, _ = time_first(self.model, xs, options.get("time_axis", 0))
        return unroll(self.model, self._values(arrays), xs, carry, **options)

    def init_carry(self, x: Inputs) -> Carry:
        """Make the carry with which a sequence starts, for one step's input x [*B, D]."""
        x = one_input(self.model, x)
        return self.model.init_carry(x, self._values(x))

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
        params = self._values(one_input(self.model, x))
        return self.model.step(params, carry, x, reset, reset_carry=reset_carry, key=key)

    def values(self, x: Inputs) -> Params:
        """Return the parameters as plain arrays, for `unroll` and the diagnostics.

        `rnn.apply(variables, x, method="values")`, for one step's input x [*B, D].
        """
        return self._values(x)

    @staticmethod
    def load(params: Params) -> dict[str, dict[str, jax.Array]]:
        """Return variables for `apply`, from the parameters of the cell or layer."""
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return {"params": {_name(path): leaf for path, leaf in leaves}}

    @nn.compact
    def _values(self, x: Inputs) -> Params:
        """Return the parameters for inputs x, or draw them."""
        _check.instance("model", self.model, (Cell, Layer), "GRU(64)")
        size = self.model.input_size(x)
        # Drawn if a parameter is missing, so also in an `apply` that may create parameters.
        if self.is_mutable_collection("params") and not self.variables.get("params"):
            params = self.model.init(self.make_rng("params"), size)
        else:
            params = param_shapes(self.model, size)

        def stored(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            return self.param(_name(path), lambda _: leaf)

        return jax.tree_util.tree_map_with_path(stored, params)


def _name(path: tuple[Any, ...]) -> str:
    """Name a parameter by its path; Flax rejects the name "params" in a module."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return "weights" if name in ("", "params") else name
