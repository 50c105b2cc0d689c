"""Checks of inputs: arrays or pytrees of them, with time first."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer
from seqcells._model import Model
from seqcells._types import Inputs, PyTree


def check_xs(model: Model, xs: Inputs, time_axis: int) -> tuple[Inputs, int]:
    """Check xs, arrays or shapes; return them and the time axis counted from the front."""
    own = model.x_ndim
    xs, lead = _check.inputs("xs", xs, own, model.x_dtypes, "T, *B")
    count, axis = len(lead), _check.integer("time_axis", time_axis)
    if not -count - own <= axis < count + own or axis % (count + own) >= count:
        raise ValueError(
            f"time_axis: expected an axis of xs {jax.tree.map(jnp.shape, xs)} before "
            f"{'the last' if own == 1 else f'its last {own}'}, got {time_axis}"
            + "; one number a step is a feature too: pass xs[..., None]"
            * (own == 1 == axis == count)
        )
    return xs, axis % (count + own)


def time_first(model: Model, xs: Inputs, time_axis: int = 0) -> tuple[Inputs, int]:
    """Check model and xs; return xs with time first, and the time axis counted from the front."""
    _check.instance("model", model, (Cell, Layer), "GRU(64)")
    arrays, axis = check_xs(model, xs, time_axis)
    return to_front(arrays, axis), axis


def to_front(xs: Inputs, axis: int) -> Inputs:
    """Move time from `axis` to the front."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), xs)


def time_back(tree: PyTree, axis: int) -> PyTree:
    """Move time from the front to `axis`."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), tree)
