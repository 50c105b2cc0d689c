"""What is elementwise, as C: a function of tiles becomes statements about one place of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Env = dict[Any, str]  # what a variable of a jaxpr is called in C

TYPES = {"float32": "float", "int32": "int", "bool": "bool"}
# How C writes an operation of JAX, by the names of its operands: those that gates and flags have.
WRITTEN = {
    "add": "{0} + {1}",
    "broadcast_in_dim": "{0}",
    "convert_element_type": "{0}",
    "eq": "{0} == {1}",
    "logistic": "logistic({0})",
    "max": "{0} > {1} || {0} != {0} ? {0} : {1}",  # NaN where either is
    "mul": "{0} * {1}",
    "ne": "{0} != {1}",
    "select_n": "{0} ? {2} : {1}",
    "sub": "{0} - {1}",
    "tanh": "tanhf({0})",
}
CALLS = ("closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit")  # of another function


class Statements(NamedTuple):
    """A function in C."""

    lines: list[str]
    values: list[str]  # what is returned


def statements(
    function: Callable[..., Any], args: Any, names: Sequence[str], wanted: slice = slice(None)
) -> Statements:
    """Write a function of tiles [1, 1] in C, in float32.

    Args:
        function: an elementwise function.
        args: its arguments, or their shapes.
        names: what their leaves are called in C.
        wanted: which leaves are wanted of what it returns.

    Raises:
        NotImplementedError: with the name of an operation that is not known.
    """
    closed = jax.make_jaxpr(function)(*args)
    outputs = closed.jaxpr.outvars[wanted]
    env = dict(zip(closed.jaxpr.invars, names, strict=True))
    env |= _constants(closed)
    lines: list[str] = []
    return Statements(lines, _write(closed.jaxpr, env, outputs, lines))


def _write(jaxpr: Any, env: Env, outputs: Sequence[Any], lines: list[str]) -> list[str]:
    """Add the statements that `outputs` need; return what they are called."""
    needed = {var for var in outputs if not hasattr(var, "val")}
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            needed.update(var for var in eqn.invars if not hasattr(var, "val"))

    def name(atom: Any) -> str:
        return _literal(atom.val) if hasattr(atom, "val") else env[atom]

    for eqn in (eqn for eqn in jaxpr.eqns if needed.intersection(eqn.outvars)):
        operands = [name(atom) for atom in eqn.invars]
        kind = eqn.primitive.name
        if kind in CALLS:
            within = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            inner = getattr(within, "jaxpr", within)
            given = dict(zip(inner.invars, operands, strict=True))
            given |= _constants(within)
            env.update(zip(eqn.outvars, _write(inner, given, inner.outvars, lines), strict=True))
            continue
        types = [str(atom.aval.dtype) for atom in (*eqn.invars, *eqn.outvars)]
        several = kind == "select_n" and types[0] != "bool"  # cases, not two
        if kind not in WRITTEN or not set(types) <= set(TYPES) or several:
            given = f"{kind} of {', '.join(types[:-1])}"
            known = f"{', '.join(WRITTEN)} of {', '.join(TYPES)}"
            raise NotImplementedError(f"gate: expected no operation but {known}, got {given}")
        env[eqn.outvars[0]] = f"v{len(lines)}"
        value = WRITTEN[kind].format(*operands)
        lines.append(f"const {TYPES[types[-1]]} v{len(lines)} = {value};")
    return [name(atom) for atom in outputs]


def _constants(jaxpr: Any) -> Env:
    """Return what the constants of a closed jaxpr are called; another has none."""
    pairs = zip(getattr(jaxpr, "consts", ()), getattr(jaxpr, "jaxpr", jaxpr).constvars, strict=True)
    return {variable: _literal(value) for value, variable in pairs}


def _literal(value: Any) -> str:
    value = np.asarray(value)
    if value.size != 1 or not np.isfinite(value).all():
        raise NotImplementedError(f"constant: expected one finite number, got {value}")
    one = value.item()
    return f"({one!r}f)" if isinstance(one, float) else f"({str(one).lower()})"
