"""Which form an influence has: from what a cell declares, and from the jaxpr of its step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from seqcells._cell import Cell, SplitCell
from seqcells._model import Model
from seqcells._types import Carry, Params, PyTree, Shape
from seqcells.engines.deferred import slopes
from seqcells.online._influence import Dense, Exact, Units
from seqcells.online._moment import Moment, floats, has_noise, reaching


def exact(moment: Moment) -> Exact:
    """Return the smallest form that leaves nothing out."""
    leaves, own_units, pairs = traced(moment), own(moment), elementwise(moment)
    if own_units is None or pairs is None:
        return Dense(leaves)
    return Units(leaves, tuple(own_units[i] for i in leaves), pairs)


def traced(moment: Moment) -> tuple[int, ...]:
    """Return the positions of the leaves of the parameters that reach the state.

    Raises:
        TypeError: if a parameter is not floating.
        ValueError: if noise makes the state depend on more of them, or is drawn within a layer.
    """
    for leaf in jax.tree.leaves(moment.params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"params: expected floating arrays, got one of dtype {leaf.dtype}")

    def state(key: jax.Array | None, params: Params) -> PyTree:
        new, y = moment.model.advance(params, moment.carry, moment.x, moment.fresh, key)
        kept = y if moment.keeps_output() else ()
        return new, kept, moment.model.init_carry(moment.x, params)

    reached = jax.tree.leaves(reaching(state, None, moment.params))
    if moment.key is not None:
        by_key, *with_noise = jax.tree.leaves(reaching(state, moment.key, moment.params))
        if by_key and not isinstance(moment.model, Cell):
            raise ValueError(
                f"key: expected a model without noise, got {moment.model}, whose layers draw some; "
                "rules know the noise of a cell alone"
            )
        if with_noise != reached:
            raise ValueError(
                f"key: expected None for {moment.model}, because some of its parameters reach the "
                "carry through its noise alone"
            )
    return tuple(i for i, reaches in enumerate(reached) if reaches)


def learned(moment: Moment) -> PyTree:
    """Return, for each leaf of the parameters, whether the first carry depends on it."""
    return reaching(lambda params: moment.model.init_carry(moment.x, params), moment.params)[0]


def unit_fields(model: Model) -> frozenset[str]:
    """Return the fields of params of which an entry reaches one unit in a step, as declared."""
    if not isinstance(model, Cell):
        return frozenset()
    names = ["UNIT_WEIGHTS"]
    if isinstance(model, SplitCell):
        if model.why_not_split() is not None:
            return frozenset()
        names += ["INPUT_WEIGHTS", "RECURRENT_WEIGHTS"]
    declared = vars(type(model))
    return frozenset(field for name in names for field in declared.get(name) or () if field)


def own(moment: Moment) -> tuple[bool, ...] | None:
    """Return, for each leaf of the parameters, whether an entry of it reaches one unit in a step.

    None if the carry has no units: its leaves are not all float[*B, *U] of one shape.
    """
    shape, names = unit_shape(moment), unit_fields(moment.model)
    if shape is None:
        return None

    def fits(path: tuple[object, ...], leaf: jax.Array) -> bool:
        last = leaf.shape[leaf.ndim - len(shape) :]
        alike = len(last) == len(shape) and last[:-1] == shape[:-1] and last[-1] % shape[-1] == 0
        return alike and jax.tree_util.keystr(path, simple=True) in names

    leaves = jax.tree_util.tree_leaves_with_path(moment.params)
    return tuple(fits(path, leaf) for path, leaf in leaves)


def elementwise(moment: Moment) -> tuple[tuple[int, ...], ...] | None:
    """Return, for each leaf of the new carry, the leaves of the old one on which it depends.

    None unless the recurrence is elementwise. Cells with noise count as if theirs were not.
    """
    cell = moment.model
    if not isinstance(cell, Cell) or has_noise(cell) or moment.keeps_output():
        return None

    def new(carry: Carry) -> Carry:
        drive = cell.project(moment.params, moment.x)
        return cell.next_carry(moment.params, carry, drive, moment.fresh)

    try:
        pairs = slopes.dependence(new, moment.carry)
    except slopes.NotElementwiseError:
        return None
    return tuple(tuple(sorted(columns)) for columns in pairs)


def all_pairs(moment: Moment) -> tuple[tuple[int, ...], ...]:
    """Return `elementwise` of a cell, each leaf of whose new carry depends on all of the old."""
    count = len(jax.tree.leaves(moment.carry))
    return (tuple(range(count)),) * count


def unit_shape(moment: Moment) -> Shape | None:
    """Return the shape *U of the units, if each leaf of the carry is float[*B, *U]; else None."""
    leaves, axes = jax.tree.leaves(moment.carry), len(moment.batch)
    shapes = {leaf.shape[axes:] for leaf in leaves}
    alike = len(shapes) == 1 and len(floats(moment.carry)) == len(leaves)
    return (shapes.pop() if alike else ()) or None
