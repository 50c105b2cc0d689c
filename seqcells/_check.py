"""Checks at the public doors: every message names the argument, what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp


def size(name: str, value: Any, *, least: int) -> int:
    """Return `value` as an int of at least `least`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}: expected an int >= {least}, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected an int >= {least}, got {number}")
    return number


def choice(name: str, value: Any, options: Iterable[str]) -> None:
    """Raise unless `value` is one of `options`."""
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")


def flag(name: str, value: Any) -> None:
    """Raise unless `value` is a Python bool: it changes the graph, so it cannot be traced."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def floating(name: str, dtype: Any, remedy: str) -> None:
    """Raise unless `dtype` is a real floating dtype."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {jnp.dtype(dtype)}; {remedy}")


def float_dtype(name: str, dtype: Any) -> None:
    """Raise unless `dtype` names a real floating dtype."""
    try:
        dtype = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}: expected a floating dtype, got {dtype!r}") from None
    floating(name, dtype, "use jnp.float32, jnp.bfloat16, jnp.float16 or jnp.float64")


def key(name: str, value: Any) -> None:
    """Raise unless `value` is one random key, typed or of the old uint32 kind."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        came = f"{dtype}{list(shape)}" if dtype is not None and shape is not None else repr(value)
        raise TypeError(f"{name}: expected one random key, as jax.random.key(0) makes, got {came}")


def describe(tree: Any) -> str:
    """Shapes of a tree of arrays, as an error message shows them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)
    rows = (
        f"{jax.tree_util.keystr(path) or 'array'}: "
        f"{None if leaf is None else tuple(jnp.shape(leaf))}"
        for path, leaf in leaves
    )
    return f"{type(tree).__name__}({', '.join(rows)})"


def same_shapes(got: Any, expected: Any) -> bool:
    """Whether two trees have one structure and the same shapes, leaf by leaf."""
    if jax.tree.structure(got) != jax.tree.structure(expected):
        return False
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return all(jnp.shape(a) == jnp.shape(b) for a, b in pairs)
