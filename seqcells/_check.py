"""Checks of public arguments; errors name the argument, what was expected and what it got."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import checkify
from jax.typing import ArrayLike, DTypeLike

if TYPE_CHECKING:
    from seqcells._types import PyTree

TRACED_TOO = jax.make_user_context(False)  # whether traced values are checked; `jit` traces anew


def integer(name: str, value: object, expected: str = "an int") -> int:
    """Return `value` as an int; booleans are rejected."""
    try:
        if isinstance(value, SupportsIndex) and not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name}: expected {expected}, got {describe_one(value)}")


def size(name: str, value: object, *, least: int) -> int:
    """Return `value` as an int of at least `least`."""
    number = integer(name, value, f"an int >= {least}")
    if number < least:
        raise ValueError(f"{name}: expected an int >= {least}, got {number}")
    return number


def seed(name: str, value: object) -> int:
    """Return `value` as an int that random keys tell apart: JAX takes 2^32 for 0."""
    number = integer(name, value, "an int from 0 to 4294967295")
    if not 0 <= number < 2**32:
        raise ValueError(f"{name}: expected an int from 0 to 4294967295, got {number}")
    return number


def choice(name: str, value: object, options: Iterable[str]) -> None:
    """Raise unless `value` is one of `options`."""
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")


def rate(name: str, value: object) -> None:
    """Raise unless `value` is a number from 0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number from 0 to below 1, got {value!r}")


def flag(name: str, value: object) -> None:
    """Raise unless `value` is a Python bool: a flag changes the graph, so it cannot be traced."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def floating(name: str, dtype: DTypeLike, remedy: str) -> None:
    """Raise unless `dtype` is a real floating dtype."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {jnp.dtype(dtype)}; {remedy}")


def kind(name: str, dtype: DTypeLike, kinds: Sequence[type], remedy: str) -> None:
    """Raise unless `dtype` is of one of these kinds, such as `jnp.floating`."""
    if not any(jnp.issubdtype(dtype, one) for one in kinds):
        names = " or ".join(one.__name__ for one in kinds)
        article = "an" if names[0] in "aeiou" else "a"
        got = f"got {jnp.dtype(dtype)}; {remedy}"
        raise TypeError(f"{name}: expected {article} {names} dtype, {got}")


def instance(name: str, value: object, kinds: type | tuple[type, ...], example: str) -> None:
    """Raise unless `value` is an instance of one of `kinds`."""
    if not isinstance(value, kinds):
        got = f"the class {value.__name__}" if isinstance(value, type) else describe_one(value)
        several = kinds if isinstance(kinds, tuple) else (kinds,)
        names = " or ".join(f"seqcells.{kind.__name__}" for kind in several)
        raise TypeError(f"{name}: expected a {names}, as {example} is, got {got}")


def array(name: str, value: ArrayLike, expected: str) -> jax.Array:
    """Return `value` as an array."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        got = describe_one(value)
        raise TypeError(f"{name}: expected {expected}, got {got}") from None


def boolean(name: str, value: ArrayLike, shape: Sequence[int], axes: str) -> jax.Array:
    """Return `value` as an array, or raise unless it is bool of this shape."""
    flags, expected = jnp.asarray(value), f"bool{list(shape)}"
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{name}: expected {expected}, got dtype {flags.dtype}")
    if flags.shape != tuple(shape):
        raise ValueError(f"{name}: expected {expected}, {axes}, got shape {flags.shape}")
    return flags


def within(
    name: str, value: ArrayLike, low: float, high: float, expected: str, remedy: str = ""
) -> None:
    """Raise unless all values are from `low` to `high`.

    Traced values are checked under `seqcells.debug.checked` alone: elsewhere nothing is left of the
    check in a program.
    """
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    if (traced and not TRACED_TOO.value) or not np.size(value):
        return
    array = jnp.asarray(value) if traced else np.asarray(value)  # concrete even within jit
    if jnp.issubdtype(array.dtype, jnp.integer):  # what its dtype can hold
        bounds = jnp.iinfo(array.dtype)
        low, high = max(low, bounds.min), min(high, bounds.max)
    least, most = array.min(), array.max()
    holds = (least >= low) & (most <= high)  # not so for NaN
    got = "{least}" if array.ndim == 0 else "values from {least} to {most}"
    message = f"{name}: expected {expected}, got {got}{remedy}"
    if traced:
        checkify.check(holds, message, least=least, most=most)
    elif not holds:
        raise ValueError(message.format(least=least, most=most))


def float_dtype(name: str, dtype: DTypeLike | None) -> None:
    """Raise unless `dtype` names a real floating dtype."""
    try:
        known = jnp.dtype(dtype or "no dtype")  # jnp.dtype(None) is float64
    except TypeError:
        raise TypeError(f"{name}: expected a floating dtype, got {dtype!r}") from None
    floating(name, known, "use jnp.float32, jnp.bfloat16, jnp.float16 or jnp.float64")
    if known.itemsize == 8 and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"{name}: expected float64 to be switched on: set jax_enable_x64")


def key(name: str, value: object) -> None:
    """Raise unless `value` is one random key, typed or of the old uint32 kind."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        got = f"{dtype}{list(shape)}" if dtype is not None and shape is not None else repr(value)
        raise TypeError(f"{name}: expected one random key, as jax.random.key(0) makes, got {got}")


def independent_key(name: str, value: jax.Array) -> None:
    """Raise unless keys like this one, vmapped, draw the bits that each draws alone."""
    impl = str(jax.random.key_impl(value))
    if impl != "threefry2x32":
        raise ValueError(
            f"{name}: expected a threefry2x32 key, got one of {impl}, whose random bits under vmap "
            "depend on the other keys; make it with jax.random.key(0, impl='threefry2x32')"
        )


def describe_one(value: object) -> str:
    """Return dtype and shape of an array, else the value, at most 80 characters of it."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and shape is not None:
        return f"{dtype}{list(shape)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def describe(tree: PyTree) -> str:
    """Return dtypes and shapes of a tree of arrays, for an error message."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)
    if len(leaves) == 1 and not leaves[0][0]:
        return describe_one(tree)
    if len(leaves) > 20:
        return f"{type(tree).__name__} of {len(leaves)} leaves"
    rows = (
        f"{jax.tree_util.keystr(path, simple=True, separator='.')}: {describe_one(leaf)}"
        for path, leaf in leaves
    )
    return f"{type(tree).__name__}({', '.join(rows)})"


def same_shapes(got: PyTree, expected: PyTree) -> bool:
    """Whether two trees have one structure and the same shapes, leaf by leaf."""
    if jax.tree.structure(got) != jax.tree.structure(expected):
        return False
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return all(jnp.shape(a) == jnp.shape(b) for a, b in pairs)


def same_kinds(got: PyTree, expected: PyTree) -> bool:
    """Whether corresponding leaves are both floating, both integer or both boolean."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    dtypes = ((jnp.result_type(a), jnp.result_type(b)) for a, b in pairs)
    return all(a == b or _kind(a) == _kind(b) for a, b in dtypes)


def _kind(dtype: DTypeLike) -> list[bool]:
    return [jnp.issubdtype(dtype, one) for one in (jnp.floating, jnp.integer, jnp.bool_)]


def extra(module: str, install: str) -> ModuleType:
    """Import a module that an extra brings; the error says how to install it.

    Args:
        module: its name, such as "orbax.checkpoint".
        install: what pip installs, such as "seqcells[sweep]".
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and lacks something itself
        raise ModuleNotFoundError(
            f'{module}: expected this module, got none of this name; pip install "{install}"',
            name=error.name,
        ) from None
