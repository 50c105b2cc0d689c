"""Dictionaries of arrays, as users pass them: flattened, checked, and nested again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqcells import _check

Arrays = dict[str, np.ndarray]
Weights = Mapping[Any, object]  # a framework's arrays by name, flat or nested; NumPy can read each
Nested = dict[Any, Any]  # NumPy arrays by name, nested


def flatten(weights: Weights, prefix: str = "") -> Arrays:
    """Flatten nested dictionaries into one, with names joined by slashes.

    Raises:
        TypeError: if `weights` is not a dictionary.
        ValueError: if an entry is not an array of a floating dtype, or two paths give the same
            name; the error names it.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"arrays: expected a dict of arrays, got {_check.describe_one(weights)}")
    flat: Arrays = {}
    for key, value in weights.items():
        name = f"{prefix}{key}"
        inner = isinstance(value, Mapping)
        part = flatten(value, f"{name}/") if inner else {name: array(name, value)}
        for name in part.keys() & flat.keys():
            raise ValueError(f"{name}: expected one array of this name, got two")
        flat |= part
    return flat


def nest(flat: Arrays, path: Callable[[str], Iterable[str | int]]) -> Nested:
    """Nest a flat dictionary: `path` returns the nested keys for a name."""
    nested: Nested = {}
    for name, value in flat.items():
        *outer, last = path(name)
        inner = nested
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return nested


def array(name: str, value: object) -> np.ndarray:
    """Return a value as a NumPy array of a floating dtype; a traced array is returned unchanged.

    Raises:
        ValueError: if it cannot be converted, or is float64 and JAX would round it.
    """
    if callable(unbox := getattr(value, "unbox", None)):
        value = unbox()  # a boxed array of Flax Linen, with axis names
    try:
        result: Any = value if isinstance(value, Tracer) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = type(value).__name__
        raise ValueError(f"{name}: expected a NumPy array, got {got}: {error}") from None
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise ValueError(f"{name}: expected a floating dtype, got {_check.describe_one(value)}")
    if result.dtype.itemsize > 4 and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{name}: expected {result.dtype} to be switched on (set jax_enable_x64), or arrays "
            f"cast to float32: JAX would round them silently"
        )
    return result


def check(what: str, got: Arrays, expected: Arrays) -> None:
    """Raise a ValueError unless names and shapes are as expected and all dtypes are equal."""
    check_names(what, got, expected)
    dtypes = {str(value.dtype) for value in got.values()}
    if len(dtypes) > 1:
        raise ValueError(f"arrays: expected one dtype for {what}, got {', '.join(sorted(dtypes))}")


def check_names(what: str, got: Arrays, expected: Arrays) -> None:
    """Raise a ValueError unless names and shapes are as expected."""
    for name in [*expected, *got]:
        if (name in got) != (name in expected):
            wanted = "an array of this name" if name in expected else "no array of this name"
            raise ValueError(
                f"{name}: expected {wanted} for {what}, which has {', '.join(expected)}; "
                f"got {', '.join(got) or 'none'}"
            )
    for name, like in expected.items():
        if got[name].shape != like.shape:
            wanted, shape = list(like.shape), list(got[name].shape)
            raise ValueError(f"{name}: expected {wanted} for {what}, got {shape}")
