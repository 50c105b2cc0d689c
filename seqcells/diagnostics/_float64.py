"""Double precision for one function in a single-precision program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from seqcells._model import is_function

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Return a version of a function that computes in float64, whatever `jax_enable_x64` is.

    Gradients by lag underflow at 1e-38 in float32, and at 1e-308 in float64. You can use the result
    inside or outside of `jit` and `vmap`; it restores the setting. Differentiate inside,
    `in_float64(jax.grad(f))`: from outside, the backward pass is in float32, and JAX warns. On a
    TPU, float64 is emulated.

    Args:
        function: any diagnostic, or another function of arrays. A cell with an explicit `dtype`
            still computes in that dtype.

    Returns:
        The function, with floating arrays in its arguments (in any tree) cast to float64. Its
        result is float64 too. If the setting is off, process the result with NumPy, or cast it:
        JAX would compute with it in float32.

    Raises:
        TypeError: if `function` is not callable.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(2, "identity", w_hh_init=sc.initializers.Identity(0.1))
    >>> args = cell, cell.init(jax.random.key(0), 1), jnp.ones((50, 1)), lambda ys: ys[-1, 0]
    >>> float(sc.diagnostics.gradient_by_lag(*args)[49])
    0.0
    >>> f"{float(in_float64(sc.diagnostics.gradient_by_lag)(*args)[49]):.0e}"
    '1e-49'
    """
    if not is_function(function):
        raise TypeError(f"function: expected one, such as gradient_by_lag, got {function!r}")

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            args, kwargs = jax.tree.map(_widen, (args, kwargs))
            return function(*args, **kwargs)

    return wrapped


def _widen(leaf: object) -> object:
    """Cast a floating array to float64; return anything else unchanged."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return leaf
    return jnp.asarray(leaf, jnp.float64)
