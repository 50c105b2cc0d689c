"""Checks of public arguments; errors name the argument, what was expected and what it got."""

from __future__ import annotations

import importlib
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence
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

TRACED_TOO = jax.make_user_context(False)  # check traced values; a change retraces


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
    """Return `value` as an int from 0 to 2^32 - 1: `jax.random.key` reduces others modulo 2^32."""
    number = integer(name, value, "an int from 0 to 4294967295")
    if not 0 <= number < 2**32:
        raise ValueError(f"{name}: expected an int from 0 to 4294967295, got {number}")
    return number


def choice(name: str, value: object, options: Iterable[str], remedy: str = "") -> None:
    """Raise unless `value` is one of `options`."""
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        known = ", ".join(map(repr, options))
        raise ValueError(f"{name}: expected one of {known}, got {describe_one(value)}{remedy}")


def number(name: str, value: object, expected: str, holds: Callable[[float], bool]) -> float:
    """Return `value` as a float, or raise unless it is a number that satisfies `holds`."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not holds(float(value)):
        raise ValueError(f"{name}: expected {expected}, got {describe_one(value)}")
    return float(value)


def finite(name: str, value: object) -> float:
    """Return `value` as a float, or raise unless it is a finite number."""
    return number(name, value, "a finite number", math.isfinite)


def positive(name: str, value: object) -> float:
    """Return `value` as a float, or raise unless it is a finite number above 0."""
    return number(name, value, "a number above 0", lambda a: 0 < a < math.inf)


def nonnegative(name: str, value: object) -> float:
    """Return `value` as a float, or raise unless it is a number of at least 0."""
    return number(name, value, "a number of at least 0", lambda a: a >= 0)


def divisor(name: str, value: object, whole: int, of: str) -> int:
    """Return `value` as an int of at least 1 that divides `whole`, the value of argument `of`."""
    part = size(name, value, least=1)
    if whole % part:
        raise ValueError(f"{name}: expected a divisor of {of} = {whole}, got {part}")
    return part


def rate(name: str, value: object) -> float:
    """Return `value` as a float, or raise unless it is a number from 0 to below 1."""
    return number(name, value, "a number from 0 to below 1", lambda rate: 0 <= rate < 1)


def flag(name: str, value: object) -> bool:
    """Return `value` as a bool: a flag changes the graph, so it cannot be traced."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {describe_one(value)}")
    return bool(value)


def floating(name: str, dtype: DTypeLike, remedy: str) -> None:
    """Raise unless `dtype` is a real floating dtype."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {dtype_name(dtype)}; {remedy}")


def dtype_name(dtype: DTypeLike) -> str:
    """Return the name of a dtype, including those of random keys, which NumPy does not know."""
    return str(dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.dtype(dtype))


def kind(name: str, dtype: DTypeLike, kinds: Sequence[type], remedy: str) -> None:
    """Raise unless `dtype` is of one of these kinds, such as `jnp.floating`."""
    if not any(jnp.issubdtype(dtype, one) for one in kinds):
        names = " or ".join(one.__name__ for one in kinds)
        article = "an" if names[0] in "aeiou" else "a"
        got = f"got {dtype_name(dtype)}; {remedy}"
        raise TypeError(f"{name}: expected {article} {names} dtype, {got}")


def instance(name: str, value: object, kinds: type | tuple[type, ...], example: str) -> None:
    """Raise unless `value` is an instance of one of `kinds` and, except for trees, hashable."""
    if not isinstance(value, kinds):
        got = f"the class {value.__name__}" if isinstance(value, type) else describe(value)
        several = kinds if isinstance(kinds, tuple) else (kinds,)
        names = " or ".join(f"seqcells.{kind.__name__}" for kind in several)
        raise TypeError(f"{name}: expected a {names}, such as {example}, got {got}")
    if not isinstance(value, tuple):  # a tuple holds parameters, which are arrays
        static(name, value)


def static(name: str, value: object) -> None:
    """Raise unless `value` can be hashed, as everything static in a program must be."""
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"{name}: expected a frozen dataclass that holds no array or list, got "
            f"{describe_one(value)}, {error}; write @dataclasses.dataclass(frozen=True), tuples "
            "for lists, and put arrays in the parameters"
        ) from None


def array(name: str, value: ArrayLike, expected: str) -> jax.Array:
    """Return `value` as an array."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        got = describe_one(value)
        raise TypeError(f"{name}: expected {expected}, got {got}") from None


def boolean(
    name: str, value: ArrayLike, shape: Sequence[int], axes: str, remedy: str = ""
) -> jax.Array:
    """Return `value` as an array, or raise unless it is bool of this shape."""
    expected = f"bool{list(shape)}"
    flags = array(name, value, expected)
    if flags.dtype != jnp.bool_ and flags.size:  # an empty list has no dtype
        raise TypeError(f"{name}: expected {expected}, got dtype {flags.dtype}; cast it to bool")
    if flags.shape != tuple(shape):
        raise ValueError(f"{name}: expected {expected}, {axes}, got shape {flags.shape}{remedy}")
    return flags.astype(bool)


def inputs(
    name: str, tree: PyTree, own: int, kinds: Sequence[type], lead: str
) -> tuple[PyTree, tuple[int, ...]]:
    """Check inputs: arrays, lists that become arrays, or shapes.

    Args:
        name: of the argument.
        tree: the inputs.
        own: the number of feature axes, the last ones.
        kinds: the kinds of dtype that they may have.
        lead: the axes before these, such as "T, *B"; those without a star are required.

    Returns:
        The inputs as arrays or shapes, and the sizes of the axes before the feature axes.
    """
    expected = f"float[{lead}, D]"

    def leaf(a: ArrayLike | jax.ShapeDtypeStruct) -> jax.Array | jax.ShapeDtypeStruct:
        hint = f"{expected}; pad ragged sequences and give lengths"
        return a if isinstance(a, jax.ShapeDtypeStruct) else array(name, a, hint)

    arrays = jax.tree.map(leaf, tree, is_leaf=lambda a: isinstance(a, list))
    least = own + sum("*" not in axis for axis in lead.split(", "))
    leads = set()
    for a in jax.tree.leaves(arrays):
        kind(name, a.dtype, kinds, "cast it, or embed tokens first")
        if a.ndim < least:
            few = f"at least {least} axes{'' if own == 1 else f', the last {own} of them features'}"
            raise ValueError(f"{name}: expected {expected}, {few}, got {describe(arrays)}")
        leads.add(tuple(a.shape[: a.ndim - own]))
    if not leads:
        raise TypeError(f"{name}: expected {expected}, got {describe_one(tree)}")
    if len(leads) > 1:
        got = describe(arrays)
        raise ValueError(f"{name}: expected arrays with the same axes [{lead}], got {got}")
    return arrays, leads.pop()


def within(
    name: str, value: ArrayLike, low: float, high: float, expected: str, remedy: str = ""
) -> None:
    """Raise unless all values are from `low` to `high`.

    Traced values are checked only under `seqcells.debug.checked`; otherwise the check adds nothing
    to a program.
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


def settle_dtypes(model: object) -> None:
    """Check `dtype`, which may be None, and `param_dtype` of a frozen dataclass.

    Both are normalised, so that models with equal dtypes compare equal.
    """
    for name in ("dtype", "param_dtype"):
        value = getattr(model, name)
        if value is not None or name == "param_dtype":
            float_dtype(name, value)
            object.__setattr__(model, name, jnp.dtype(value))


def kinds(name: str, value: object) -> None:
    """Raise unless `value` is a tuple of kinds of dtype, at least one."""
    if not isinstance(value, tuple) or not value:
        raise TypeError(
            f"{name}: expected a tuple of kinds of dtype, such as (jnp.integer,), got {value!r}"
        )


def key(name: str, value: object) -> None:
    """Raise unless `value` is one random key, typed or of the old uint32 kind."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and shape is not None and len(shape) == 1):
        got = describe(value)
        raise TypeError(f"{name}: expected one random key, such as jax.random.key(0), got {got}")


def independent_key(name: str, value: jax.Array) -> None:
    """Raise unless keys of this kind draw the same bits under vmap as they draw alone."""
    impl = str(jax.random.key_impl(value))
    if impl != "threefry2x32":
        raise ValueError(
            f"{name}: expected a threefry2x32 key, got one of {impl}, whose random bits under vmap "
            "depend on the other keys; make it with jax.random.key(0, impl='threefry2x32')"
        )


def describe_one(value: object) -> str:
    """Return dtype and shape of an array, or up to 80 characters of another value."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and shape is not None:
        return f"{dtype}{list(shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}..."


def describe(tree: PyTree) -> str:
    """Return dtypes and shapes of a tree of arrays, for an error message."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)
    if not leaves or not leaves[0][0]:  # no arrays, or not a tree
        return describe_one(tree)
    if len(leaves) > 20:
        return f"{type(tree).__name__} of {len(leaves)} leaves"
    rows = (
        f"{jax.tree_util.keystr(path, simple=True, separator='.')}: {describe_one(leaf)}"
        for path, leaf in leaves
    )
    return f"{type(tree).__name__}({', '.join(rows)})"


def extra(module: str, install: str) -> ModuleType:
    """Import a module that an extra installs; the error says how to install it.

    Args:
        module: its name, such as "orbax.checkpoint".
        install: what pip installs, such as "seqcells[sweep]".
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is installed, but one of its own imports is missing
        raise ModuleNotFoundError(
            f'{module}: expected this module, got none of this name; pip install "{install}"',
            name=error.name,
        ) from None
