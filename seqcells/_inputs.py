"""Checks of inputs: arrays or pytrees of them, with time first."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model
from seqcells._types import Inputs, PyTree


def check_xs(model: Model, xs: Inputs, time_axis: int) -> int:
    """Check xs, arrays or their shapes; return the axis of time counted from the front."""
    own, leads = model.x_ndim, set()
    if not jax.tree.leaves(xs):
        raise TypeError(f"xs: expected float[T, *B, D], got {_check.describe_one(xs)}")
    for leaf in jax.tree.leaves(xs):
        _check.kind("xs", leaf.dtype, model.x_dtypes, "cast it, or embed tokens first")
        if leaf.ndim < 1 + own:
            few = "at least two axes" if own == 1 else f"time and {own} axes of their own"
            raise ValueError(f"xs: expected float[T, *B, D], {few}, got shape {leaf.shape}")
        leads.add(tuple(leaf.shape[: leaf.ndim - own]))
    if len(leads) != 1:
        shapes = _check.describe(xs)
        raise ValueError(f"xs: expected arrays with the same axes [T, *B], got {shapes}")
    (lead,) = leads
    count, axis = len(lead), _check.integer("time_axis", time_axis)
    if not -count - own <= axis < count + own or axis % (count + own) >= count:
        raise ValueError(
            f"time_axis: expected an axis of xs {jax.tree.map(jnp.shape, xs)} before "
            f"{'the last' if own == 1 else f'its last {own}'}, got {time_axis}"
        )
    return axis % (count + own)


def time_first(model: Model, xs: Inputs, time_axis: int = 0) -> tuple[Inputs, int]:
    """Check model and xs; return xs with time first, and the axis counted from the front."""
    _check.instance("model", model, (Cell, Layer), "GRU(64)")
    expected = "float[T, *B, D]; pad ragged sequences and give lengths"
    arrays = jax.tree.map(
        lambda leaf: _check.array("xs", leaf, expected), xs, is_leaf=lambda a: isinstance(a, list)
    )
    axis = check_xs(model, arrays, time_axis)
    return to_front(arrays, axis), axis


def to_front(xs: Inputs, axis: int) -> Inputs:
    """Move time from `axis` to the front."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), xs)


def time_back(tree: PyTree, axis: int) -> PyTree:
    """Move time from the front to `axis`."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), tree)
