"""The base class of cells and layers: parameters, a carry, and one step."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells import _calls, _check
from seqcells._static import Named
from seqcells._trees import (
    cached_shapes,
    distinct,
    leaves_like,
    rewrite,
    select,
    shard_rows,
    zeros_like,
)
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params, PyTree, TreeDef


class Model(Named, abc.ABC):
    """The base of cells and layers: configuration without arrays, and pure functions.

    Subclasses are frozen dataclasses and static in JAX: you can pass a model through `jit` and
    `vmap` like any argument, and equal models are traced once.
    """

    @property
    def reader(self) -> Model | None:
        """The inner model that reads the inputs; None for a model without inner models."""
        return None

    @property
    def x_ndim(self) -> int:
        """The number of feature axes of one step's input; the axes before them are batch axes.

        1 for features [D], 3 for images [H, W, C], 0 for tokens; for a pytree, that of each leaf.
        """
        return 1 if self.reader is None else self.reader.x_ndim

    @property
    def x_dtypes(self) -> tuple[type, ...]:
        """The kinds of dtype that inputs may have, such as `(jnp.integer,)` for tokens."""
        return (jnp.floating,) if self.reader is None else self.reader.x_dtypes

    def input_size(self, x: Inputs) -> InputSize:
        """Return the `input_size` for which `init` makes parameters that fit x [*B, ...].

        D for x [*B, D]; the shape without batch axes if `x_ndim` is not 1; for a pytree, a pytree
        of such sizes.
        """
        if self.reader is not None:
            return self.reader.input_size(x)
        ndim = self.x_ndim

        def of(leaf: jax.Array) -> InputSize:
            return leaf.shape[-1] if ndim == 1 else tuple(leaf.shape[leaf.ndim - ndim :])

        return jax.tree.map(of, x)

    def zero_input(self, input_size: InputSize) -> Inputs:
        """Return one step's input of zeros without batch axes, of this `input_size`.

        All leaves are float if the model reads floats, else int. A model with leaves of different
        dtypes must override this method.
        """
        if self.reader is not None:
            return self.reader.zero_input(input_size)
        floating = any(jnp.issubdtype(jnp.float32, kind) for kind in self.x_dtypes)
        dtype = float if floating else int

        def of(size: InputSize) -> jax.Array:
            shape = size if isinstance(size, tuple) and self.x_ndim != 1 else (size,)
            shape = [_check.size("input_size", n, least=0) for n in shape]
            return jnp.zeros(shape[len(shape) - self.x_ndim :], dtype)

        return jax.tree.map(of, input_size, is_leaf=lambda size: type(size) is tuple)

    @abc.abstractmethod
    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Make parameters for inputs of this size: D where x is float[*B, D]."""

    @abc.abstractmethod
    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make the carry with which a sequence starts.

        Args:
            x: one step's input [*B, D]. It determines the shape and sharding of the carry; the
                values of x are not used.
            params: the parameters; needed only if the first carry is learned.

        Returns:
            The carry, a tree of arrays [*B, ...].
        """

    @abc.abstractmethod
    def advance(
        self,
        params: Params,
        carry: Carry,
        x: Inputs,
        fresh: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, Outputs]:
        """Take one step with a resolved model, after resets and checks.

        Args:
            params: the parameters.
            carry: the memory before the step; the fresh one where `fresh` is True.
            x: the input of the step, [*B, ...].
            fresh: bool[*B], True where a sequence starts by a reset; None where none does.
            key: one random key for the noise of this step; None for evaluation.
        """

    def step(
        self,
        params: Params,
        carry: Carry,
        x: Inputs,
        reset: ArrayLike | None = None,
        *,
        reset_carry: Carry = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, Outputs]:
        """Take one step, for instance of an actor, or as the body of `jax.lax.scan`.

        A loop of steps equals `unroll`, with `reset` for `resets` and the same `reset_carry`.

        A variational mask depends only on the key: pass the same key to all steps of an episode to
        get the mask of `unroll` with this key. Other noise (zoneout, the dropout of a `Stack`) is
        drawn from the key of the step: pass a different key to each step.

        Args:
            params: the parameters, as `init` makes them.
            carry: the memory before the step, as `init_carry` makes it.
            x: float[*B, D]; the input of this step.
            reset: bool[*B]; True = a new sequence starts here: the carry is replaced by the fresh
                one before x is read.
            reset_carry: the fresh carry, one for every sequence; that of `init_carry` if None.
            key: one random key for noise; None for evaluation.

        Returns:
            The carry after the step, and the output y in the dtype of computation.

        Raises:
            TypeError: if the reset is not bool, or the key is not a random key.
            ValueError: if the reset, the carry or the parameters have the wrong shape, or the model
                cannot step because it reads sequences from their end.
        """
        _check.static("model", self)
        if key is not None:
            _check.key("key", key)
        x, batch = _check.inputs("x", x, self.x_ndim, self.x_dtypes, "*B")
        params, model = as_arrays(params), self.resolve(x)
        self.check_params(params, self.input_size(x))
        shapes = carry_shapes(model, x, params)
        carry = like("carry", carry, shapes, x)
        if reset_carry is not None:
            reset_carry = like("reset_carry", reset_carry, shapes, x)
        if reset is not None:
            reset = _check.boolean("reset", reset, batch, "the batch axes of x")
            first = start_carry(model, x, params) if reset_carry is None else reset_carry
            carry = select(reset, first, carry)
        return distinct(model.advance(params, carry, x, reset, key))

    def resolve(self, x: Inputs) -> Self:
        """Return the model with every choice made that depends on the input's dtype."""
        return self

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` fit this model and inputs of this size."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise a TypeError that names `unroll` and `step`: a model cannot be called."""
        raise TypeError(
            f"{type(self).__name__}: expected no call of the model itself, got one; {_calls.CALLED}"
        )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise an AttributeError that says what to call instead."""
            raise AttributeError(_calls.elsewhere(name, type(self)), name=name, obj=self)


def is_function(value: object) -> bool:
    """Whether a value is a function; calling a model only raises an error."""
    return callable(value) and not isinstance(value, Model)


def leading(model: Model, x: Inputs) -> tuple[int, ...]:
    """Return the sizes of the axes before the feature axes: [*B] of one step, [T, *B] of all."""
    leaf = jax.tree.leaves(x)[0]
    return tuple(leaf.shape[: leaf.ndim - model.x_ndim])


def start_carry(model: Model, x: Inputs, params: Params) -> Carry:
    """Make the first carry for one step's input x, without letting the model see its values."""
    carry = distinct(jax.tree.map(jnp.asarray, model.init_carry(zeros_like(x), params)))
    return shard_rows(carry, rows_spec(model, x))


def rows_spec(model: Model, x: Inputs) -> tuple[PyTree, ...]:
    """Return the explicit mesh axes that shard each leading axis of x, or None for an axis."""
    return tuple(jax.typeof(jax.tree.leaves(x)[0]).sharding.spec)[: len(leading(model, x))]


def carry_shapes(model: Model, x: Inputs, params: Params) -> Carry:
    """Return the shapes and dtypes of a resolved model's carry for one step's x [*B, ...]."""
    return shapes_of(start_carry, model, x, params)


@contextlib.contextmanager
def steady(model: Model, params: Params, xs: Inputs) -> Iterator[None]:
    """If a loop over xs fails because a step changes the carry's dtypes, name `init_carry`.

    Nothing is computed unless the loop raises. xs: [T, *B, ...].
    """
    try:
        yield
    except TypeError as error:
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        before, after = carry_shapes(model, x, params), shapes_of(_after_step, model, x, params)
        if jax.tree.leaves(before) == jax.tree.leaves(after):
            raise
        raise TypeError(
            f"init_carry: expected {_check.describe(after)}, which a step of {model} returns for "
            f"x {_check.describe(x)}, got {_check.describe(before)}; make the first carry in the "
            "dtype of the step's result, such as jnp.promote_types(x.dtype, jnp.float32)"
        ) from error


def _after_step(model: Model, x: Inputs, params: Params) -> Carry:
    return model.advance(params, start_carry(model, x, params), x)[0]


def shapes_of(
    function: Callable[[Model, Inputs, Params], PyTree], model: Model, x: Inputs, params: Params
) -> PyTree:
    """Return the shapes and dtypes of `function(model, x, params)`, from a cache.

    Args:
        function: a module-level function, so that the cache recognises it.
        model: the model.
        x: one step's input [*B, ...], arrays or their shapes.
        params: the parameters.
    """
    args, structure = jax.tree.flatten((x, params))
    shapes = (jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)) for a in args)
    return _shapes_of(function, model, structure, *shapes)


@cached_shapes(maxsize=512)
def _shapes_of(
    function: Callable[[Model, Inputs, Params], PyTree],
    model: Model,
    structure: TreeDef,
    *args: jax.ShapeDtypeStruct,
) -> PyTree:
    def of(*args: jax.Array) -> PyTree:
        return function(model, *jax.tree.unflatten(structure, args))

    return jax.eval_shape(of, *args)


def like(name: str, carry: Carry, expected: Carry, xs: Inputs, hint: str = "") -> Carry:
    """Return a carry in the expected dtypes, or raise if its structure or shapes differ."""
    leaves = leaves_like(carry, expected)
    if leaves is None:
        rewritten = rewrite(name, carry, expected)
        raise ValueError(
            f"{name}: expected {_check.describe(expected)} for inputs "
            f"{jax.tree.map(jnp.shape, xs)}, got {_check.describe(carry)}"
            f"{f'; write {rewritten}' if rewritten else hint}"
        )
    wanted, structure = jax.tree.flatten(expected)
    cast = [jnp.asarray(a, b.dtype) for a, b in zip(leaves, wanted, strict=True)]
    return jax.tree.unflatten(structure, cast)


def as_arrays(tree: PyTree) -> PyTree:
    """Return the tree with its NumPy leaves as JAX arrays."""

    def of(leaf: object) -> object:
        return jnp.asarray(leaf) if isinstance(leaf, (np.ndarray, np.generic)) else leaf

    return jax.tree.map(of, tree)


def one_input(model: Model, x: Inputs) -> Inputs:
    """Return one step's input x [*B, ...] as arrays, or raise if it is not one."""
    leaves = jax.tree.leaves(x, is_leaf=lambda a: isinstance(a, list))
    if model.x_ndim and not all(hasattr(a, "shape") or isinstance(a, list) for a in leaves):
        raise TypeError(
            f"x: expected float[*B, D], the input of one step, got {_check.describe(x)}; "
            "write model.init_carry(xs[0])"
        )
    return _check.inputs("x", x, model.x_ndim, model.x_dtypes, "*B")[0]


def fresh_carry(model: Model, xs: Inputs, params: Params) -> Carry:
    """Make the carry with which the sequences xs [T, *B, ...] start; T may be 0."""

    def first(leaf: jax.Array) -> jax.Array:  # zeros [*B, ...], sharded as xs is
        step = leaf[0] if leaf.shape[0] else jnp.sum(leaf, axis=0)
        return jnp.zeros_like(step, dtype=leaf.dtype)

    return start_carry(model, jax.tree.map(first, xs), params)


def param_shapes(model: Model, input_size: InputSize) -> Params:
    """Return the shapes of a model's parameters without allocating them."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), input_size))


def known_shapes(model: Model, input_size: InputSize) -> Params:
    """Return `param_shapes` from a cache, because every call needs them."""
    sizes, structure = jax.tree.flatten(input_size, is_leaf=lambda size: type(size) is tuple)
    return _known_shapes(model, structure, *sizes)


@cached_shapes(maxsize=256)
def _known_shapes(model: Model, structure: TreeDef, *sizes: int | tuple[int, ...]) -> Params:
    return param_shapes(model, jax.tree.unflatten(structure, sizes))


def check_fit(model: Model, params: Params, input_size: InputSize) -> None:
    """Raise a ValueError unless `params` are as `init` makes them for this `input_size`."""
    expected = known_shapes(model, input_size)
    if leaves_like(params, expected) is None:
        raise ValueError(
            f"params: {model} on inputs of {input_size} features (the last axis of xs) expects "
            f"{_check.describe(expected)}, got {_check.describe(params)}; make them with "
            f"its init(key, {input_size}){_remedy(params, expected)}"
        )


def _remedy(params: Params, expected: Params) -> str:
    """Return a hint for parameters that do not fit."""
    rewritten = rewrite("params", params, expected)
    if rewritten:
        return f", or {rewritten}"
    same = jax.tree.structure(params) == jax.tree.structure(expected)
    pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=False))
    if same and all(jnp.shape(a) == b.shape for a, b in pairs):
        return ", or cast them to a floating dtype"
    if same and all(jnp.shape(a)[1:] == b.shape for a, b in pairs):
        return "; these have one more leading axis: jax.vmap(sc.unroll, (None, 0, None))"
    if same and all(jnp.shape(a)[::-1] == b.shape for a, b in pairs):
        return "; these are transposed: matrices are [in, out] here"
    return ", or check the last axis of xs"
