"""Double precision for one function, in a program that computes in single."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function compute in float64, whether or not `jax_enable_x64` is set.

    Gradients by lag underflow at 1e-38 in float32, and at 1e-308 here. It may stand under or over
    jit and vmap, and leaves the setting as it was. Differentiate within, `in_float64(jax.grad(f))`:
    from outside, the way back is in float32, as JAX then warns. On a TPU, float64 is emulated.

    Args:
        function: any diagnostic, or another function of arrays. Where it is given a cell with a
            `dtype` of its own, that dtype is computed in.

    Returns:
        The function on arguments whose floating arrays, in any tree, are cast to float64. So is
        what it returns: where the setting is off, go on with NumPy, or cast it, since JAX would
        compute with it in float32.

    Raises:
        TypeError: for what is no function.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(2, "identity", w_hh_init=sc.initializers.Identity(0.1))
    >>> args = cell, cell.init(jax.random.key(0), 1), jnp.ones((50, 1)), lambda ys: ys[-1, 0]
    >>> float(sc.diagnostics.gradient_by_lag(*args)[49])
    0.0
    >>> f"{float(in_float64(sc.diagnostics.gradient_by_lag)(*args)[49]):.0e}"
    '1e-49'
    """
    if not callable(function):
        raise TypeError(f"function: expected one, as gradient_by_lag is, got {function!r}")

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            args, kwargs = jax.tree.map(_widened, (args, kwargs))
            return function(*args, **kwargs)

    return computed


def _widened(leaf: Any) -> Any:
    """Cast an array of floating numbers to float64; leave all else."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return leaf
    return jnp.asarray(leaf, jnp.float64)
