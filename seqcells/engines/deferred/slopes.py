"""The derivative of an elementwise function: a slope for each dependent pair of leaves.

The jaxpr of the function shows whether it is elementwise, and which output leaf depends on which
input leaf. Slopes that are always zero are therefore never computed, stored or multiplied.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

from seqcells._types import PyTree

Row = list[jax.Array | None]  # for one output leaf: its slope by each of some other leaves, or None
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


def is_affine(function: Callable[..., PyTree], *args: PyTree) -> bool:
    """Whether the tangent of a function does not depend on where it is taken.

    It may be affine even if this is False, since only the equations that are computed are looked
    at, not their values.
    """

    def tangent(at: PyTree, by: PyTree) -> PyTree:
        return jax.jvp(function, at, by)[1]

    jaxpr = jax.make_jaxpr(tangent)(args, args).jaxpr
    needed = {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            needed |= {atom for atom in eqn.invars if isinstance(atom, Var)}
    return not needed.intersection(jaxpr.invars[: len(jaxpr.invars) // 2])


def slopes(function: Callable[..., PyTree], *args: PyTree) -> list[Row]:
    """Differentiate an elementwise function, entry by entry; return a row for each output leaf.

    If an output leaf is computed from another one (an LSTM's h from its c), its row has the slope
    by that leaf, and slopes by only those inputs that it reads directly.
    """
    return complete(function, args, distinct(function, *args))


def distinct(function: Callable[..., PyTree], *args: PyTree) -> list[Row]:
    """Return `slopes`, with None for each slope that equals another one in its row."""
    closed = jax.make_jaxpr(function)(*args)
    leaves, first = jax.tree.leaves(args), _twins(closed.jaxpr)
    outputs = _evaluate(closed, leaves)
    table: list[Row] = []
    for place in range(len(outputs)):
        through, depends = _through(closed.jaxpr, place)
        inputs = leaves if through is None else [*leaves, outputs[through]]
        row: Row = [None] * (len(leaves) + len(outputs))
        for column in depends:
            if column < len(leaves) and first[column] != column:
                continue

            def of_one(
                one: jax.Array,
                column: int = column,
                place: int = place,
                inputs: Sequence[jax.Array] = inputs,
                through: int | None = through,
            ) -> jax.Array:
                some = [*inputs[:column], one, *inputs[column + 1 :]]
                return _evaluate(closed, some, through)[place]

            one = inputs[column]
            slope = jax.jvp(of_one, (one,), (jnp.ones_like(one),))[1]
            row[column if through is None else column + through * (column == len(leaves))] = slope
        table.append(row)
    return table


def complete(function: Callable[..., PyTree], args: PyTree, table: list[Row]) -> list[Row]:
    """Undo `distinct`: return `slopes` of the function and its arguments, or their shapes."""
    first = twins(function, *args)
    return [[row[i] for i in first] + row[len(first) :] for row in table]


def _through(jaxpr: Jaxpr, place: int) -> tuple[int | None, list[int]]:
    """Choose an output to compute another output from, so that the other has the fewest slopes.

    Returns:
        The position of the chosen output, or None; and the inputs on which the other output then
        depends, where the number of inputs stands for the chosen output.
    """
    count = len(jaxpr.invars)
    inputs = [frozenset([i]) for i in range(count)]
    made = [eqn.outvars[0] for eqn in jaxpr.eqns if len(eqn.outvars) == 1]
    choices: list[tuple[int | None, Inputs]] = [(None, _walk(jaxpr, inputs)[place])]
    for other, var in enumerate(jaxpr.outvars):
        if var is not jaxpr.outvars[place] and any(var is one for one in made):
            assert isinstance(var, Var)  # for the type checker: an equation made it
            choices.append((other, _walk(jaxpr, inputs, {var: frozenset([count])})[place]))
    through, depends = min(choices, key=lambda choice: len(choice[1]))
    return through, sorted(depends)


def _evaluate(
    closed: ClosedJaxpr, inputs: Sequence[jax.Array], through: int | None = None
) -> list[jax.Array]:
    """Evaluate a jaxpr; the last input is the value of output `through`, if that is not None."""
    if through is None:
        return jaxpr_as_fun(closed)(*inputs)
    fixed = closed.jaxpr.outvars[through]
    assert isinstance(fixed, Var)  # for the type checker: an equation made it
    jaxpr = closed.jaxpr.replace(
        constvars=[*closed.jaxpr.constvars, fixed],
        eqns=[eqn for eqn in closed.jaxpr.eqns if eqn.outvars[0] is not fixed],
    )
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, [*closed.consts, inputs[-1]]))(*inputs[:-1])


def twins(function: Callable[..., PyTree], *args: PyTree) -> list[int]:
    """Return, for each input leaf, the first leaf with equal slopes: itself if there is no other.

    Two leaves have equal slopes if the function reads only their sum, as gates do with drive and
    mixed.
    """
    return _twins(jax.make_jaxpr(function)(*args).jaxpr)


def _twins(jaxpr: Jaxpr) -> list[int]:
    position: dict[Var | Literal, int] = {var: i for i, var in enumerate(jaxpr.invars)}
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


def substituted(rows: Sequence[Row], by_new: Sequence[Row]) -> list[Row]:
    """Eliminate the slopes by other leaves of the new carry, by the chain rule.

    Args:
        rows: for each leaf, its direct slopes or its direct tangent.
        by_new: for each leaf, its slopes by the other leaves from which it is computed.

    Returns:
        For each leaf, its total slopes or its total tangent.
    """
    done: dict[int, Row] = {}
    while len(done) < len(rows):  # a leaf comes after those from which it is computed
        for i, slopes_by in enumerate(by_new):
            others = [(slope, j) for j, slope in enumerate(slopes_by) if slope is not None]
            if i not in done and all(j in done for _, j in others):
                parts = [[a if a is None else slope * a for a in done[j]] for slope, j in others]
                done[i] = list(map(total, rows[i], *parts))
    return [done[i] for i in range(len(rows))]


def total(*some: jax.Array | None) -> jax.Array | None:
    """Return the sum of those that are not None; None if all are."""
    given = [a for a in some if a is not None]
    return functools.reduce(jnp.add, given) if given else None


def terms(row: Sequence[jax.Array | None], tangents: PyTree) -> list[jax.Array]:
    """Return slope times tangent for each leaf that has both; `tangents` may be None."""
    leaves = [None] * len(row) if tangents is None else jax.tree.leaves(tangents)
    pairs = zip(row, leaves, strict=True)
    return [s * t for s, t in pairs if s is not None and t is not None]


def _walk(
    jaxpr: Jaxpr, invars: Sequence[Inputs], fixed: Mapping[Var, Inputs] | None = None
) -> list[Inputs]:
    """Compute on which inputs each variable of a jaxpr depends, given that of `fixed` ones."""
    nothing: Inputs = frozenset()
    known = dict(zip(jaxpr.invars, invars, strict=True)) | dict(fixed or {})

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
        known |= dict(zip(eqn.outvars, after, strict=True)) | dict(fixed or {})
    return [of(atom) for atom in jaxpr.outvars]
