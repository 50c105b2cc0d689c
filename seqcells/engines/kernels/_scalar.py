"""What is elementwise, as C: a function of tiles becomes statements about one place of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Env = dict[Any, str]  # what a variable of a jaxpr is called in C

TYPES = {"float32": "float", "int32": "int", "bool": "bool"}
SPECIAL = {"inf": "1.0f / 0.0f", "-inf": "-1.0f / 0.0f", "nan": "0.0f / 0.0f"}
SAME = ("broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze", "stop_gradient")
# How C writes an operation of JAX, by the names of its operands. The first change the shape of a
# tile, or its dtype as C does by itself.
WRITTEN = dict.fromkeys(SAME, "{0}") | {
    "abs": "fabsf({0})",
    "add": "{0} + {1}",
    "and": "{0} && {1}",
    "div": "{0} / {1}",
    "eq": "{0} == {1}",
    "exp": "expf({0})",
    "ge": "{0} >= {1}",
    "gt": "{0} > {1}",
    "le": "{0} <= {1}",
    "log1p": "log1pf({0})",
    "logistic": "logistic({0})",
    "lt": "{0} < {1}",
    "max": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "min": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "mul": "{0} * {1}",
    "ne": "{0} != {1}",
    "neg": "-{0}",
    "not": "!{0}",
    "or": "{0} || {1}",
    "select_n": "{0} ? {2} : {1}",
    "square": "{0} * {0}",
    "sub": "{0} - {1}",
    "tanh": "tanhf({0})",
}


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
        within = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if within is not None:
            inner = getattr(within, "jaxpr", within)
            given = dict(zip(inner.invars, operands, strict=True))
            given |= _constants(within)
            env.update(zip(eqn.outvars, _write(inner, given, inner.outvars, lines), strict=True))
            continue
        (out,) = eqn.outvars
        if eqn.primitive.name not in WRITTEN:
            raise NotImplementedError(f"{eqn.primitive}: expected {', '.join(sorted(WRITTEN))}")
        value = WRITTEN[eqn.primitive.name].format(*operands)
        env[out] = f"v{len(lines)}"
        lines.append(f"const {TYPES[str(out.aval.dtype)]} {env[out]} = {value};")
    return [name(atom) for atom in outputs]


def _constants(jaxpr: Any) -> Env:
    """Return what the constants of a closed jaxpr are called; another has none."""
    pairs = zip(getattr(jaxpr, "consts", ()), getattr(jaxpr, "jaxpr", jaxpr).constvars, strict=True)
    return {variable: _literal(value) for value, variable in pairs}


def _literal(value: Any) -> str:
    value = np.asarray(value)
    if value.size != 1:
        raise NotImplementedError(f"constant: expected one number, got shape {value.shape}")
    one = value.item()
    if not isinstance(one, float):
        return f"({str(one).lower()})"
    return f"({one!r}f)" if math.isfinite(one) else f"({SPECIAL[str(one)]})"
