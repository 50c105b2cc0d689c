"""Any cell or layer as a `flax.nnx` module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._calls import explained
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model, one_input
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params, PyTree
from seqcells._unroll import unroll


class RNN(nnx.Module):
    """A cell or a layer and its parameters as an nnx module.

    Calling it runs `seqcells.unroll`; `init_carry` and `step` are those of the cell or layer.

    No method changes the module, so a closure over it may be jitted and vmapped:
    `jax.jit(lambda xs: rnn(xs))`.

    Args:
        model: any cell or layer, for instance `seqcells.GRU(64)`.
        input_size: features of the input, at least 0.
        rngs: the source of the key, taken from its stream `params`.

    Attributes:
        model: the cell or layer.
        weights: its parameters, also called `params`. Each leaf is an `nnx.Param`, or an
            `nnx.Variable` if it is not floating and so has no gradient. (The name is not "params"
            because `nnx.bridge.ToLinen` rejects that at the top of a state.)

    >>> import jax.numpy as jnp, seqcells as sc
    >>> from flax import nnx
    >>> rnn = sc.nnx.RNN(sc.GRU(64), input_size=8, rngs=nnx.Rngs(0))
    >>> xs = jnp.ones((20, 4, 8))
    >>> carry, ys = rnn(xs)
    >>> carry, y = rnn.step(rnn.init_carry(xs[0]), xs[0])
    >>> carry.shape, ys.shape, y.shape
    ((4, 64), (20, 4, 64), (4, 64))
    """

    @explained
    def __init__(self, model: Model, input_size: InputSize, *, rngs: nnx.Rngs) -> None:
        _check.instance("model", model, (Cell, Layer), "GRU(64)")
        self.model = model
        self.load(model.init(_key(rngs), input_size))

    def __call__(self, xs: Inputs, carry: Carry = None, **options: Any) -> tuple[Carry, Outputs]:
        """Run the model over xs float[T, *B, D].

        Args:
            xs: the inputs, time first unless `time_axis` says otherwise.
            carry: the initial carry; a fresh one if None.
            **options: `lengths`, `mask`, `resets`, `key` and the others of `seqcells.unroll`.

        Returns:
            The last carry, and ys [T, *B, H].
        """
        carry, ys = unroll(self.model, self.values, xs, _given(carry), **options)
        return self._shown(carry), ys

    def init_carry(self, x: Inputs) -> Carry:
        """Make the carry with which a sequence starts, for one step's input x [*B, D]."""
        return self._shown(self.model.init_carry(one_input(self.model, x), self.values))

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
        options = {"reset_carry": _given(reset_carry), "key": key}
        carry, y = self.model.step(self.values, _given(carry), x, reset, **options)
        return self._shown(carry), y

    @property
    def params(self) -> PyTree:
        """The parameters; the same as `weights`."""
        return self.weights

    @params.setter
    def params(self, params: PyTree) -> None:
        self.weights = params

    @property
    def values(self) -> Params:
        """The parameters as plain arrays, for `unroll` and the diagnostics."""
        return jax.tree.map(
            lambda param: param[...], self.weights, is_leaf=lambda a: isinstance(a, nnx.Variable)
        )

    def load(self, params: Params) -> None:
        """Set the parameters, given as `values` or `init` of the cell or layer return them."""
        self.weights = nnx.data(jax.tree.map(_variable, params))

    def _shown(self, carry: Carry) -> Carry:
        """Return the carry; within `nnx.tabulate`, with its NamedTuples as dicts.

        Flax's table fails on a tuple that holds a NamedTuple.
        """
        return _as_dicts(carry) if hasattr(self, "_nnx_tabulate_id") else carry


@jax.tree_util.register_pytree_with_keys_class
class _Fields(dict):
    """A NamedTuple for `nnx.tabulate`: a dict whose entries are also attributes."""

    def __init__(self, kind: type, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.kind = kind

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple]:
        entries = [(jax.tree_util.DictKey(name), value) for name, value in self.items()]
        return entries, (self.kind, tuple(self))

    @classmethod
    def tree_unflatten(cls, aux: tuple, values: Iterable[Any]) -> _Fields:
        kind, names = aux
        return cls(kind, dict(zip(names, values, strict=True)))


def _variable(leaf: jax.Array) -> nnx.Variable:
    trained = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    return (nnx.Param if trained else nnx.Variable)(leaf)


def _as_dicts(tree: PyTree) -> PyTree:
    names = getattr(tree, "_fields", None)
    if names is not None:
        return _Fields(type(tree), dict(zip(names, map(_as_dicts, tree), strict=True)))
    return tuple(map(_as_dicts, tree)) if isinstance(tree, tuple) else tree


def _given(tree: PyTree) -> PyTree:
    """Undo `_as_dicts`."""
    if isinstance(tree, _Fields):
        return tree.kind(**{name: _given(value) for name, value in tree.items()})
    return tuple(map(_given, tree)) if type(tree) is tuple else tree


def _key(rngs: nnx.Rngs) -> jax.Array:
    """Draw a key from the stream `params`, or raise."""
    if not isinstance(rngs, nnx.Rngs):
        got = _check.describe_one(rngs)
        raise TypeError(f"rngs: expected nnx.Rngs, got {got}; write nnx.Rngs(0), or nnx.Rngs(key)")
    try:
        return rngs.params()
    except AttributeError:
        got = ", ".join(rngs) or "none"
        raise ValueError(
            f"rngs: expected a stream `params` or a default one, got {got}; write nnx.Rngs(0)"
        ) from None
