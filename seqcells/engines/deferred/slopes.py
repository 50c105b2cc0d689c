"""The derivative of an elementwise function: a slope for each pair of leaves that depend.

The jaxpr of the function shows whether it is elementwise, and which output leaf depends on which
input leaf. So no slope that is always zero is computed, stored or multiplied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal, Var

from seqcells._types import PyTree

Row = list[jax.Array | None]  # of an output leaf: a slope by each input leaf, or None
Inputs = frozenset[int]  # the input leaves on which a value depends
_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy
cos cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p
logistic lt max min mul ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign
pcast pvary sin sinh sqrt square stop_gradient sub tan tanh xor
"""
ELEMENTWISE = frozenset(_NAMES.split())  # names of JAX's primitives


class NotElementwiseError(ValueError):
    """An entry of a function's output depends on another entry of its input."""


def dependence(function: Callable[..., PyTree], *args: PyTree) -> list[Inputs]:
    """Return, for each output leaf, the positions of the input leaves on which it depends.

    Args:
        function: any function.
        args: its arguments, or their shapes.

    Raises:
        NotElementwiseError: with the name of a primitive that is not elementwise.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _walk(jaxpr, [frozenset([i]) for i in range(len(jaxpr.invars))])


def slopes(function: Callable[..., PyTree], *args: PyTree) -> list[Row]:
    """Differentiate an elementwise function, entry by entry; return a row for each output leaf."""
    leaves, structure = jax.tree.flatten(args)
    depends = dependence(function, *args)
    table: list[Row] = [[None] * len(leaves) for _ in depends]
    for column, leaf in enumerate(leaves):
        rows = [row for row, on in enumerate(depends) if column in on]

        def of_leaf(
            leaf: jax.Array, column: int = column, rows: Sequence[int] = rows
        ) -> list[jax.Array]:
            args = jax.tree.unflatten(structure, [*leaves[:column], leaf, *leaves[column + 1 :]])
            outs = jax.tree.leaves(function(*args))
            return [outs[row] for row in rows]

        tangents = jax.jvp(of_leaf, (leaf,), (jnp.ones_like(leaf),))[1] if rows else []
        for row, slope in zip(rows, tangents, strict=True):
            table[row][column] = slope
    return table


def distinct(function: Callable[..., PyTree], *args: PyTree) -> list[Row]:
    """Return `slopes`, with None in place of a slope that equals another of its row."""
    first = twins(function, *args)
    table = slopes(function, *args)
    return [[s if first[i] == i else None for i, s in enumerate(row)] for row in table]


def complete(function: Callable[..., PyTree], args: PyTree, table: list[Row]) -> list[Row]:
    """Undo `distinct`: return `slopes` of the function and its arguments, or their shapes."""
    first = twins(function, *args)
    return [[row[first[i]] for i in range(len(row))] for row in table]


def twins(function: Callable[..., PyTree], *args: PyTree) -> list[int]:
    """Return for each input leaf the first leaf with equal slopes: itself, if there is no other.

    Two leaves have equal slopes where the function reads their sum and neither of them alone, as
    gates do with drive and mixed.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    position = {var: i for i, var in enumerate(jaxpr.invars)}
    read = [atom for eqn in jaxpr.eqns for atom in eqn.invars] + list(jaxpr.outvars)
    uses = Counter(atom for atom in read if not isinstance(atom, Literal))
    first = list(range(len(jaxpr.invars)))
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "add" and all(
            not isinstance(atom, Literal) and atom in position and uses[atom] == 1
            for atom in eqn.invars
        ):
            one, other = sorted(position[atom] for atom in eqn.invars)
            first[other] = one
    return first


def terms(row: Sequence[jax.Array | None], tangents: PyTree) -> list[jax.Array]:
    """Return slope times tangent for each leaf that has both; `tangents` may be None."""
    leaves = [None] * len(row) if tangents is None else jax.tree.leaves(tangents)
    pairs = zip(row, leaves, strict=True)
    return [s * t for s, t in pairs if s is not None and t is not None]


def _walk(jaxpr: Jaxpr, invars: Sequence[Inputs]) -> list[Inputs]:
    """Follow the dependence of each variable of a jaxpr."""
    nothing: Inputs = frozenset()
    known = dict(zip(jaxpr.invars, invars, strict=True))

    def of(atom: Var | Literal) -> Inputs:  # a literal and a constant depend on nothing
        return nothing if isinstance(atom, Literal) else known.get(atom, nothing)

    for eqn in jaxpr.eqns:
        before = [of(atom) for atom in eqn.invars]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if not any(before):
            after = [nothing] * len(eqn.outvars)
        elif inner is not None and eqn.primitive.name not in ("scan", "while", "cond"):
            after = _walk(getattr(inner, "jaxpr", inner), before)
        elif eqn.primitive.name in ELEMENTWISE:
            after = [nothing.union(*before)] * len(eqn.outvars)
        else:
            raise NotElementwiseError(eqn.primitive.name)
        known.update(zip(eqn.outvars, after, strict=True))
    return [of(atom) for atom in jaxpr.outvars]
