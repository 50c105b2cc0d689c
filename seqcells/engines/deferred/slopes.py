"""The derivative of an elementwise function: a slope for each pair of leaves that depend.

What is elementwise, and which leaf depends on which, is read off the function's jaxpr, so that no
slope that is always zero is computed, kept or multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Row = list[Any]  # of an output leaf: a slope for each input leaf, None where it does not depend
_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy
cos cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p
logistic lt max min mul ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign
pcast pvary sin sinh sqrt square stop_gradient sub tan tanh xor
"""
ELEMENTWISE = frozenset(_NAMES.split())  # as JAX's primitives are called


class NotElementwiseError(ValueError):
    """A function's output in one place depends on its input in another."""


def dependence(function: Callable[..., Any], *args: Any) -> list[frozenset[int]]:
    """Return the numbers of the input leaves on which each output leaf depends.

    Args:
        function: any function.
        args: its arguments, or their shapes.

    Raises:
        NotElementwiseError: with the name of an operation that is not elementwise.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _walk(jaxpr, [frozenset([i]) for i in range(len(jaxpr.invars))])


def slopes(function: Callable[..., Any], *args: Any) -> list[Row]:
    """Differentiate an elementwise function in each place: a row for each output leaf."""
    leaves, structure = jax.tree.flatten(args)
    depends = dependence(function, *args)
    table: list[Row] = [[None] * len(leaves) for _ in depends]
    for column, leaf in enumerate(leaves):
        rows = [row for row, on in enumerate(depends) if column in on]

        def moved(leaf: jax.Array, column: int = column, rows: Sequence[int] = rows) -> Any:
            args = jax.tree.unflatten(structure, [*leaves[:column], leaf, *leaves[column + 1 :]])
            outs = jax.tree.leaves(function(*args))
            return [outs[row] for row in rows]

        found = jax.jvp(moved, (leaf,), (jnp.ones_like(leaf),))[1] if rows else []
        for row, slope in zip(rows, found, strict=True):
            table[row][column] = slope
    return table


def push(slopes: Sequence[Any], tangents: Any) -> list[jax.Array]:
    """Return slope times tangent for each leaf that has both; `tangents` may be None."""
    leaves = [None] * len(slopes) if tangents is None else jax.tree.leaves(tangents)
    pairs = zip(slopes, leaves, strict=True)
    return [s * t for s, t in pairs if s is not None and t is not None]


def _walk(jaxpr: Any, given: list[frozenset[int]]) -> list[frozenset[int]]:
    """Follow what each variable of a jaxpr depends on."""
    nothing: frozenset[int] = frozenset()
    known = dict(zip(jaxpr.invars, given, strict=True))

    def on(atom: Any) -> frozenset[int]:
        return (
            nothing if hasattr(atom, "val") else known.get(atom, nothing)
        )  # a literal, a constant

    for eqn in jaxpr.eqns:
        before = [on(atom) for atom in eqn.invars]
        within = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if not any(before):
            after = [nothing] * len(eqn.outvars)
        elif within is not None and eqn.primitive.name not in ("scan", "while", "cond"):
            after = _walk(getattr(within, "jaxpr", within), before)
        elif eqn.primitive.name in ELEMENTWISE:
            after = [nothing.union(*before)] * len(eqn.outvars)
        else:
            raise NotElementwiseError(eqn.primitive.name)
        known.update(zip(eqn.outvars, after, strict=True))
    return [on(atom) for atom in jaxpr.outvars]
