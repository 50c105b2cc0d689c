"""Dicts of arrays at the door: flattened, checked, and nested again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells.interop._gates import Arrays

Nest = Callable[[str], Iterable[Any]]  # the way of a name through nested dicts


def flat(arrays: Any, prefix: str = "") -> Arrays:
    """Make one dict of nested ones, with names joined by a slash.

    Raises:
        TypeError: on what is no dict.
        ValueError: on what is no floating array, naming it.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays: expected a dict of arrays, got {_check.describe_one(arrays)}")
    out: Arrays = {}
    for key, value in arrays.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= flat(value, f"{name}/")
        else:
            out[name] = array(name, value)
    return out


def nested(arrays: Arrays, nest: Nest) -> dict[Any, Any]:
    """Make nested dicts of one."""
    out: dict[Any, Any] = {}
    for name, value in arrays.items():
        *way, last = nest(name)
        inner = out
        for key in way:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return out


def array(name: str, value: Any) -> np.ndarray:
    """Return a value as a NumPy array of a floating dtype.

    Raises:
        ValueError: where it is none, or float64 while JAX would round it.
    """
    try:
        made = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        came = type(value).__name__
        raise ValueError(f"{name}: expected a NumPy array, got {came}: {error}") from None
    if not jnp.issubdtype(made.dtype, jnp.floating):
        raise ValueError(f"{name}: expected a floating dtype, got {_check.describe_one(value)}")
    if made.dtype.itemsize > 4 and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{name}: expected {made.dtype} to be switched on (set jax_enable_x64), or arrays cast "
            f"to float32: JAX would round them in silence"
        )
    return made


def check(what: str, came: Arrays, expected: Arrays) -> None:
    """Raise a ValueError unless names and shapes are as expected, and there is one dtype."""
    check_names(what, came, expected)
    kinds = {str(value.dtype) for value in came.values()}
    if len(kinds) > 1:
        raise ValueError(f"arrays: expected one dtype for {what}, got {', '.join(sorted(kinds))}")


def check_names(what: str, came: Arrays, expected: Mapping[str, Any]) -> None:
    """Raise a ValueError unless names and shapes are as expected."""
    for name in [*expected, *came]:
        if (name in came) != (name in expected):
            verb = "an array of this name" if name in expected else "no array of this name"
            raise ValueError(
                f"{name}: expected {verb} for {what}, which has {', '.join(expected)}; "
                f"got {', '.join(came) or 'none'}"
            )
    for name, like in expected.items():
        if came[name].shape != like.shape:
            wanted, shape = list(like.shape), list(came[name].shape)
            raise ValueError(f"{name}: expected {wanted} for {what}, got {shape}")
