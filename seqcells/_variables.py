"""Models with a state: which part is trained, and which part the loss updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._static import exported
from seqcells._types import Params, PyTree

Metrics = dict[str, jax.Array]
# Flax's names for untrained variables: classes of nnx, and collections of Linen.
_UNTRAINED = {"BatchStat", "Cache", "Intermediate", "Perturbation", "RngState"}
_COLLECTIONS = {"batch_stats", "cache", "intermediates"}


@exported
class Variables(NamedTuple):
    """Parameters and state of a model, such as the running means of a batch norm.

    Or any other state of a loss, such as the carries from which `newton` starts.

    If you train `Variables` instead of parameters, the loss takes `Variables` and returns (scalar,
    further scalars, new state). The optimiser updates only `params`.
    """

    params: Params  # what is trained
    state: PyTree  # what the loss updates, any arrays: running means, counts, keys


def trained(params: Params | Variables) -> Params:
    """Return the trained part of parameters or of `Variables`."""
    return params.params if isinstance(params, Variables) else params


def with_trained(variables: Params | Variables, params: Params) -> Params | Variables:
    """Return `variables` with `params` as the trained part.

    The state is rebuilt, because nnx lets a trace change only what was built within it.
    """
    if not isinstance(variables, Variables):
        return params
    return Variables(params, jax.tree.map(lambda a: a, variables.state))


def check_trainable(params: Params) -> None:
    """Raise if a leaf cannot be trained, or is known to be the state of a model."""
    remedy = (
        "pass floating arrays as params and the rest as state: train.Variables(params, state), "
        "with _, params, state = nnx.split(net, nnx.Param, ...)"
    )
    found = _COLLECTIONS.intersection(params) if isinstance(params, Mapping) else ()
    if found:
        raise TypeError(f"params: expected trained parameters, got {', '.join(found)}; {remedy}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_state):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if _is_state(leaf):
            got = f"{name}, a {type(leaf).__name__}"
        elif not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            got = f"{name} {_check.describe_one(leaf)}"
        else:
            continue
        raise TypeError(f"params: expected floating arrays to train, got {got}; {remedy}")


def _is_state(leaf: object) -> bool:
    return any(
        kind.__name__ in _UNTRAINED and kind.__module__.startswith("flax.")
        for kind in type(leaf).__mro__
    )


def checked(out: Any, variables: Params | Variables) -> tuple[jax.Array, tuple[Metrics, PyTree]]:
    """Return the result of a loss, with the new state of the model or None, or raise."""
    parts = ["scalar", "dict of further scalars"] + ["new state"] * isinstance(variables, Variables)
    if not isinstance(out, tuple) or len(out) != len(parts) or not isinstance(out[1], dict):
        got = f"{len(out)} values" if isinstance(out, tuple) else type(out).__name__
        remedy = "; a state needs train.Variables" if got == "3 values" else ""
        raise TypeError(f"loss: expected to return ({', '.join(parts)}), got {got}{remedy}")
    for name, value in out[1].items():
        if name in ("loss", "grad_norm"):
            raise ValueError(f"loss: expected no further scalar named {name!r}, which is reserved")
        if jnp.shape(value) != ():
            got = _check.describe_one(value)
            raise ValueError(f"loss: expected further scalars, got {name} {got}; reduce it")
    if len(parts) == 2:
        return out[0], (out[1], None)
    before, state = jax.tree.map(jnp.asarray, (variables.state, out[2]))
    if jax.tree.map(_kind, state) != jax.tree.map(_kind, before):
        raise ValueError(
            f"loss: expected a new state like the one given, {_check.describe(before)}, got "
            f"{_check.describe(state)}"
        )
    return out[0], (out[1], state)


def _kind(a: jax.Array) -> tuple[object, ...]:
    return a.shape, a.dtype


def floats(tree: PyTree) -> PyTree:
    """Return the floating leaves of a tree, None for the others."""
    return jax.tree.map(lambda a: a if jnp.issubdtype(a.dtype, jnp.inexact) else None, tree)


def agreed(tree: PyTree, means: PyTree, axis: str | tuple[str, ...]) -> PyTree:
    """Return one state for all devices: the means of floats; other leaves are the same on all."""

    def leaf(own: jax.Array, mean: jax.Array | None) -> jax.Array:
        return _same(own, axis) if mean is None else mean.astype(own.dtype)

    return jax.tree.map(leaf, tree, means)


def _same(a: jax.Array, axis: str | tuple[str, ...]) -> jax.Array:
    """Tell JAX that a counter or a key is the same on all devices."""
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        data = _same(jax.random.key_data(a), axis)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    wide = a.astype(jnp.int32) if a.dtype == bool else a
    return jax.lax.pmax(wide, axis).astype(a.dtype)
