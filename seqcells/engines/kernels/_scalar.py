"""Elementwise functions in C: a function of tiles becomes statements about one position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from seqcells._types import PyTree

Env = dict[Var, str]  # the name in C of each variable of a jaxpr

TYPES = {"float32": "float", "int32": "int", "bool": "bool"}
# The primitives that gates and flags use, written in C; {n} is the name of an operand.
WRITTEN = {
    "add": "{0} + {1}",
    "broadcast_in_dim": "{0}",
    "convert_element_type": "{0}",
    "eq": "{0} == {1}",
    "logistic": "logistic({0})",
    "max": "{0} > {1} || {0} != {0} ? {0} : {1}",  # NaN if either is
    "mul": "{0} * {1}",
    "ne": "{0} != {1}",
    "select_n": "{0} ? {2} : {1}",
    "sub": "{0} - {1}",
    "tanh": "tanhf({0})",
}
# The primitives that call a function.
CALLS = (
    "closed_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "jit",
    "pjit",
)


class Statements(NamedTuple):
    """The body of a function in C."""

    lines: list[str]
    values: list[str]  # the names of the values that it returns


def statements(
    function: Callable[..., PyTree], args: PyTree, names: Sequence[str], wanted: slice = slice(None)
) -> Statements:
    """Write a function of tiles [1, 1] in C, in float32.

    Args:
        function: an elementwise function.
        args: its arguments, or their shapes.
        names: the names of their leaves in C.
        wanted: which leaves of the result to return.

    Raises:
        NotImplementedError: with the name of a primitive that `WRITTEN` lacks.
    """
    closed = jax.make_jaxpr(function)(*args)
    outputs = closed.jaxpr.outvars[wanted]
    env = dict(zip(closed.jaxpr.invars, names, strict=True))
    env |= _constants(closed)
    lines: list[str] = []
    return Statements(lines, _write(closed.jaxpr, env, outputs, lines))


def _write(jaxpr: Jaxpr, env: Env, outputs: Sequence[Var | Literal], lines: list[str]) -> list[str]:
    """Add the statements that `outputs` need; return the names of the outputs."""
    needed = {var for var in outputs if not isinstance(var, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            needed.update(var for var in eqn.invars if not isinstance(var, Literal))

    def name(atom: Var | Literal) -> str:
        return _literal(atom.val) if isinstance(atom, Literal) else env[atom]

    for eqn in (eqn for eqn in jaxpr.eqns if needed.intersection(eqn.outvars)):
        operands = [name(atom) for atom in eqn.invars]
        if eqn.primitive.name in CALLS:
            called = eqn.params["jaxpr" if "jaxpr" in eqn.params else "call_jaxpr"]
            inner = getattr(called, "jaxpr", called)
            inner_env = dict(zip(inner.invars, operands, strict=True)) | _constants(called)
            values = _write(inner, inner_env, inner.outvars, lines)
            env.update(zip(eqn.outvars, values, strict=True))
            continue
        kind = _result_type(eqn)
        env[eqn.outvars[0]] = f"v{len(lines)}"
        value = WRITTEN[eqn.primitive.name].format(*operands)
        lines.append(f"const {kind} v{len(lines)} = {value};")
    return [name(atom) for atom in outputs]


def _result_type(eqn: JaxprEqn) -> str:
    """Return the C type of an operation's result, or raise if the operation is not supported."""
    name = eqn.primitive.name
    types = [str(cast(ShapedArray, atom.aval).dtype) for atom in (*eqn.invars, *eqn.outvars)]
    several = name == "select_n" and types[0] != "bool"  # a selection among more than two
    if name not in WRITTEN or not set(types) <= set(TYPES) or several:
        got = f"{name} of {', '.join(types[:-1])}"
        known = f"{', '.join(WRITTEN)} of {', '.join(TYPES)}"
        raise NotImplementedError(f"gate: expected no operation but {known}, got {got}")
    return TYPES[types[-1]]


def _constants(jaxpr: Jaxpr | ClosedJaxpr) -> Env:
    """Return the names of the constants of a closed jaxpr; other jaxprs have none."""
    pairs = zip(getattr(jaxpr, "consts", ()), getattr(jaxpr, "jaxpr", jaxpr).constvars, strict=True)
    return {variable: _literal(value) for value, variable in pairs}


def _literal(value: PyTree) -> str:
    value = np.asarray(value)
    if value.size != 1 or not np.isfinite(value).all():
        raise NotImplementedError(f"constant: expected one finite number, got {value}")
    one = value.item()
    return f"({one!r}f)" if isinstance(one, float) else f"({str(one).lower()})"
