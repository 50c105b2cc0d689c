"""Opt-in checks of values in traced programs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
from jax.core import Tracer
from jax.experimental import checkify

from seqcells import _check
from seqcells._model import is_function

P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that also checks the values that are traced in it.

    The library checks values, such as `lengths` from 0 to T, where they are concrete. Under `jit`,
    `vmap`, `grad` and in a scan values are traced and not checked, because a check costs time at
    every call. A checked call does check them: `lengths` of `unroll` and similar functions; tokens,
    labels, lags and other arguments of a probe's `sample`; variances of `mean_field`. Functions
    that were jitted before are traced and compiled once more.

    Args:
        function: any function that returns arrays, jitted or not.

    Returns:
        The function, to be called outside of `jit`, `vmap` and scans.

    Raises:
        ValueError: in a call, for a value out of range, as in a call without `jit`.
        TypeError: in a call, if the checked function is itself jitted, mapped or scanned.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.GRU(3)
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> run = jax.jit(lambda xs, n: sc.unroll(cell, params, xs, lengths=n)[1])
    >>> sc.debug.checked(run)(jnp.ones((5, 2)), 7)
    Traceback (most recent call last):
    ValueError: lengths: expected values from 0 to T=5, got 7
    """
    if not is_function(function):
        got = _check.describe_one(function)
        raise TypeError(f"function: expected a function of arrays, got {got}")

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _check.TRACED_TOO.value:
            return function(*args, **kwargs)  # within another checked call, which raises
        with _check.TRACED_TOO(True):
            error, out = checkify.checkify(function)(*args, **kwargs)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(error)):
            raise TypeError(
                "checked: expected a call outside of jit, vmap and scans, got one inside; "
                "write sc.debug.checked(jax.jit(function))"
            )
        message = error.get()
        if message is not None:
            raise ValueError(message.removesuffix(" (`check` failed)"))
        return out

    return run
