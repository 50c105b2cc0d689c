"""Mean-field theory of wide random nets: the variance of activity and the decay of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._static import exported


@exported
class MeanField(NamedTuple):
    """The fixed point of a wide tanh net."""

    q: jax.Array  # [*S], variance of a unit's sum, W_h h + W_x x + b
    chi: jax.Array  # [*S], factor on the squared norm of a gradient at each step
    depth: jax.Array  # [*S], -1 / ln chi, steps in which that norm falls by e; inf if chi >= 1


def mean_field(weight_std: ArrayLike, input_var: ArrayLike) -> MeanField:
    """Compute the fixed point of a wide tanh net (Chen, Pennington & Schoenholz 2018).

    The entries of w_hh are independent with variance sw^2 / H, and the input and the bias add a
    variance of su^2 to a unit's sum at every step. With Dx the standard normal measure::

        q = sw^2 Int tanh^2(sqrt(q) x) Dx + su^2       chi = sw^2 Int sech^4(sqrt(q) x) Dx

    E||dL/dh||^2 is then proportional to chi^k at a lag of k steps. Without an input (su^2 = 0), a
    net of finite width with sw > 1 is chaotic, and deviates from this.

    Args:
        weight_std: float[*S]; sw, at least 0.
        input_var: float[*S]; su^2, at least 0.

    Returns:
        q, chi and depth, float[*S]; differentiable where su^2 > 0.

    Raises:
        TypeError: if an argument is not floating.
        ValueError: if an argument is below 0 or NaN; under `jit` the result is then NaN.

    >>> q, chi, depth = mean_field(1.2, 0.1)
    >>> round(float(q), 3), round(float(chi), 3), round(float(depth), 1)
    (0.489, 0.859, 6.6)
    """
    sw, su2 = _at_least_0(weight_std=weight_std, input_var=input_var)
    gain = jnp.square(sw)

    def excess(q: jax.Array) -> jax.Array:
        return gain * _gaussian_mean(_tanh_squared, q) + su2 - q

    # Above the largest fixed point the variance shrinks; as tanh^2 <= 1, it is below su2 + gain.
    q = _root(excess, su2, su2 + gain, sign=-1)
    chi = gain * _gaussian_mean(_slope_squared, q)
    stays = chi >= 1
    depth = jnp.where(stays, jnp.inf, -1 / jnp.log(jnp.where(stays, jnp.full_like(chi, 0.5), chi)))
    return MeanField(q, chi, depth)


def critical_weight_std(input_var: ArrayLike) -> jax.Array:
    """Compute the sw at which chi = 1, so that gradients keep their norm on average.

    If chi = 1, both sw^2 and su^2 are functions of q, and su^2 grows with q. Bisection finds the q
    whose su^2 is `input_var`.

    Args:
        input_var: float[*S]; su^2, at least 0.

    Returns:
        float[*S]; 1 if su^2 = 0, and larger for larger su^2. Differentiable where su^2 > 0.

    Raises:
        TypeError: if the argument is not floating.
        ValueError: if it is below 0 or NaN; under `jit` the result is then NaN.

    >>> round(float(critical_weight_std(0.0)), 3), round(float(critical_weight_std(0.1)), 3)
    (1.0, 1.409)
    """
    (su2,) = _at_least_0(input_var=input_var)

    def gain(q: jax.Array) -> jax.Array:
        return 1 / _gaussian_mean(_slope_squared, q)

    def excess(q: jax.Array) -> jax.Array:
        return q - gain(q) * _gaussian_mean(_tanh_squared, q) - su2

    # gain * tanh^2 < 1 + 2 sqrt(q), so su^2 exceeds `input_var` above this q.
    q = _root(excess, su2, jnp.square(1 + jnp.sqrt(2 + su2)), sign=1)
    return jnp.sqrt(gain(q))


def _root(
    excess: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array, sign: int
) -> jax.Array:
    """Find the root above which a function has the sign `sign`; differentiable bisection."""

    def bisect(excess: Callable[[jax.Array], jax.Array], _: jax.Array) -> jax.Array:
        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = (low + high) / 2
            above = sign * excess(middle) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        # One halving for each bit of the mantissa, and 12 for roots much smaller than `high`.
        ends = jax.lax.fori_loop(0, jnp.finfo(low.dtype).nmant + 12, halve, (low, high))
        return (ends[0] + ends[1]) / 2

    def by_slope(slope: Callable[[jax.Array], jax.Array], y: jax.Array) -> jax.Array:
        return y / slope(jnp.ones_like(y))

    low, high = jax.lax.stop_gradient((low, high))
    return jax.lax.custom_root(excess, high, bisect, by_slope)


def _gaussian_mean(function: Callable[[jax.Array], jax.Array], q: jax.Array) -> jax.Array:
    """Compute Int f(sqrt(q) x) Dx of an even f, x standard normal. q: float[*S].

    The error of the trapezoid rule falls exponentially for smooth integrands that vanish at both
    ends: it is 1e-15 up to q = 100 with these points. As many points of Gauss-Hermite leave 1e-3.
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
    """Return arguments as arrays of one shape and dtype; a traced value below 0 becomes NaN."""
    arrays = []
    for name, value in arguments.items():
        array = _check.array(name, value, "float[*S]")
        _check.floating(name, array.dtype, "write 1.0 for 1")
        _check.within(name, value, 0, np.inf, "at least 0")
        arrays.append(array)
    dtype = jnp.result_type(*arguments.values())  # Python numbers promote weakly
    return [jnp.where(a >= 0, a, jnp.nan).astype(dtype) for a in jnp.broadcast_arrays(*arrays)]
