"""The theory of wide random nets: how large their activity is, and how fast gradients decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from seqcells import _check


class MeanField(NamedTuple):
    """The fixed point to which a wide tanh net settles."""

    q: jax.Array  # [*S], the variance of a unit's sum, W_h h + W_x x + b
    chi: jax.Array  # [*S], the factor by which the squared norm of a gradient changes a step
    depth: jax.Array  # [*S], -1 / ln chi, steps in which it falls by e; inf where chi >= 1


def mean_field(weight_std: ArrayLike, input_var: ArrayLike) -> MeanField:
    """Compute what a wide tanh net settles to (Chen, Pennington & Schoenholz 2018).

    For w_hh of independent entries of variance sw^2 / H, and sums to which the input and the bias
    add a variance of su^2 at every step, with Dx the standard normal measure::

        q = sw^2 Int tanh^2(sqrt(q) x) Dx + su^2       chi = sw^2 Int sech^4(sqrt(q) x) Dx

    E||dL/dh||^2 is then as chi^k at a lag of k steps. Without an input (su^2 = 0) a net of finite
    width with sw > 1 is chaotic, and strays from this.

    Args:
        weight_std: float[*S]; sw, at least 0.
        input_var: float[*S]; su^2, at least 0.

    Returns:
        q, chi and depth, float[*S]; differentiable where su^2 > 0.

    Raises:
        TypeError: on arguments that are not floating.
        ValueError: on one below 0, or NaN.

    >>> q, chi, depth = mean_field(1.2, 0.1)
    >>> round(float(q), 3), round(float(chi), 3), round(float(depth), 1)
    (0.489, 0.859, 6.6)
    """
    sw, su2 = _at_least_0(weight_std=weight_std, input_var=input_var)
    gain = jnp.square(sw)

    def excess(q: jax.Array) -> jax.Array:
        return gain * _gaussian_mean(_tanh_squared, q) + su2 - q

    # Above the largest fixed point the sum shrinks, and tanh^2 is at most 1: from there down.
    q = _root(excess, su2, su2 + gain, sign=-1)
    chi = gain * _gaussian_mean(_slope_squared, q)
    decays = chi < 1
    depth = jnp.where(
        decays, -1 / jnp.log(jnp.where(decays, chi, jnp.full_like(chi, 0.5))), jnp.inf
    )
    return MeanField(q, chi, depth)


def critical_weight_std(input_var: ArrayLike) -> jax.Array:
    """Compute the sw at which chi = 1: gradients neither vanish nor explode, on average.

    chi = 1 makes sw^2 a function of q, and then su^2 as well, which grows with q: the q that
    belongs to `input_var` is found by bisection.

    Args:
        input_var: float[*S]; su^2, at least 0.

    Returns:
        float[*S]; 1 where su^2 = 0, and more with more input. Differentiable where su^2 > 0.

    Raises:
        TypeError: on an argument that is not floating.
        ValueError: on one below 0, or NaN.

    >>> round(float(critical_weight_std(0.0)), 3), round(float(critical_weight_std(0.1)), 3)
    (1.0, 1.409)
    """
    (su2,) = _at_least_0(input_var=input_var)

    def gain(q: jax.Array) -> jax.Array:
        return 1 / _gaussian_mean(_slope_squared, q)

    def excess(q: jax.Array) -> jax.Array:
        return q - gain(q) * _gaussian_mean(_tanh_squared, q) - su2

    # gain * tanh^2 < 1 + 2 sqrt(q): above this q there is too much input.
    q = _root(excess, su2, jnp.square(1 + jnp.sqrt(2 + su2)), sign=1)
    return jnp.sqrt(gain(q))


def _root(
    excess: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array, sign: int
) -> jax.Array:
    """Bisect for the root of a function with sign `sign` above it; differentiable by its slope."""

    def bisect(excess: Callable[[jax.Array], jax.Array], _: jax.Array) -> jax.Array:
        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = (low + high) / 2
            above = sign * excess(middle) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        # A halving a bit of the mantissa, and some to reach a root that is small beside `high`.
        ends = jax.lax.fori_loop(0, jnp.finfo(low.dtype).nmant + 12, halve, (low, high))
        return (ends[0] + ends[1]) / 2

    def by_slope(slope: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
        return y / slope(jnp.ones_like(y))

    low, high = jax.lax.stop_gradient((low, high))
    return jax.lax.custom_root(excess, high, bisect, by_slope)


def _gaussian_mean(function: Callable[[jax.Array], jax.Array], q: jax.Array) -> jax.Array:
    """Compute Int f(sqrt(q) x) Dx of an even f, x standard normal. q: float[*S].

    By the trapezoid rule, whose error falls exponentially for what is smooth and fades: 1e-15 up to
    q = 100 with these points, where as many of Gauss and Hermite are 1e-3 off.
    """
    points, reach = 401, 9.0  # the normal density is 1e-18 at 9
    x = jnp.linspace(0, reach, points, dtype=q.dtype)
    weight = jnp.exp(-jnp.square(x) / 2) * (2 * reach / (points - 1) / math.sqrt(2 * math.pi))
    weight = weight.at[0].divide(2)
    return function(jnp.sqrt(q)[..., None] * x) @ weight


def _tanh_squared(a: jax.Array) -> jax.Array:
    return jnp.square(jnp.tanh(a))


def _slope_squared(a: jax.Array) -> jax.Array:
    """Compute sech^4 = (1 - tanh^2)^2."""
    return jnp.square(1 - jnp.square(jnp.tanh(a)))


def _at_least_0(**arguments: ArrayLike) -> list[jax.Array]:
    """Return arguments as arrays of one shape and dtype; values are checked when concrete."""
    arrays = []
    for name, value in arguments.items():
        array = _check.array(name, value, "float[*S]")
        _check.floating(name, array.dtype, "write 1.0 for 1")
        if not isinstance(value, Tracer) and not np.all(np.asarray(value) >= 0):
            raise ValueError(f"{name}: expected at least 0, got {value!r}")
        arrays.append(array)
    dtype = jnp.result_type(*arguments.values())  # a Python number promotes as one
    return [a.astype(dtype) for a in jnp.broadcast_arrays(*arrays)]
