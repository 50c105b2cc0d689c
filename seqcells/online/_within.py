"""A stack whose layers each have an influence of their own, and a gradient that passes on at once.

Layer l reads y^{l-1}_t and has the carry h^l_t. Its parameters have the influence of `RTRL` on its
own carry, as if its inputs were data. The loss of a step reaches them through the layers above in
the same step, whose carries before it are held fixed::

    P^l_t = J^l_t P^l_{t-1} + F^l_t          within layer l
    g^{l-1}_t = g^l_t dy^l_t/dy^{l-1}_t      h^l_{t-1} held fixed; g^L_t = dL_t/dy^L_t
    dL_t/dtheta^l = g^l_t dy^l_t/dh^l_t P^l_t

This leaves out what a layer put out in an earlier step and a layer above has kept since.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._model import Model
from seqcells._static import exported
from seqcells._types import Carry, Outputs, Params, PyTree
from seqcells.layers import Recurrent, Stack
from seqcells.online._moment import Moment
from seqcells.online._rule import settled, through_settling


@exported
class WithinLayers(NamedTuple):
    """The influences within the layers of a stack, and what a step was computed with."""

    layers: tuple[PyTree, ...]  # of each layer's parameters on its carry; () without a carry
    before: tuple[Carry, ...]  # the carry before the step, after resets, [*B, ...]
    fresh: jax.Array  # bool[*B], True where a sequence started by a reset


def why_not(model: Model) -> str | None:
    """Say why layers of a model cannot have influences of their own, or return None."""
    if not isinstance(model, Stack):
        return "it is not a Stack"
    options = {"skip": model.skip, "tied": model.tied}
    return next((f"it has {name}=True" for name, on in options.items() if on), None)


def start(own: Callable[[Moment], PyTree], moment: Moment) -> WithinLayers:
    """Return the influences on the fresh carry; `own` makes that of a layer."""
    layers = tuple(own(one) if _remembers(one) else () for one, _, _ in _moments(moment))
    return WithinLayers(layers, moment.carry, jnp.zeros(moment.batch, bool))


def update(
    own: Callable[[Moment, PyTree], PyTree], moment: Moment, influence: WithinLayers
) -> WithinLayers:
    """Return the influences after a step; `own` moves that of a layer."""
    pairs = zip(_moments(moment), influence.layers, strict=True)
    layers = tuple(own(one, p) if _remembers(one) else () for (one, _, _), p in pairs)
    fresh = jnp.zeros(moment.batch, bool) if moment.fresh is None else moment.fresh
    return WithinLayers(layers, moment.carry, fresh)


def gradient(
    own: Callable[[Moment, Outputs, PyTree], Params],
    moment: Moment,
    dy: Outputs,
    influence: WithinLayers,
) -> tuple[Params, ...]:
    """Return the gradient of a step's loss, from the last layer down.

    Args:
        own: (moment of a layer after the step, the cotangent of its output, its influence) -> the
            gradient by its parameters.
        moment: of the stack, after the step.
        dy: the cotangent of the stack's output.
        influence: after the step.
    """
    again = dataclasses.replace(moment, carry=influence.before, fresh=influence.fresh)
    steps, grads = list(_moments(again)), []
    for i in reversed(range(len(steps))):
        one, after, layer = steps[i]
        last = dataclasses.replace(one, carry=after, fresh=None)
        by_own = own(last, dy, influence.layers[i]) if _remembers(one) else _direct(one, dy)
        grads.append(through_settling(layer, moment.params[i], by_own))
        if i:  # below the first layer there are data
            _, back = jax.vjp(lambda x, one=one: dataclasses.replace(one, x=x).advance()[1], one.x)
            (dy,) = back(dy)
    return tuple(reversed(grads))


def _remembers(moment: Moment) -> bool:
    return bool(jax.tree.leaves(moment.carry))


def _direct(moment: Moment, dy: Outputs) -> Params:
    """Return the gradient of a layer without a memory."""
    held, back = moment.held()

    def output(params: Params) -> Outputs:
        return dataclasses.replace(moment, params=back(params)).advance()[1]

    return jax.vjp(output, held)[1](dy)[0]


def _moments(moment: Moment) -> Iterator[tuple[Moment, Carry, Model]]:
    """Yield a layer's moment, its carry after the step, and the layer, resolved."""
    stack, x = moment.model, moment.x
    assert isinstance(stack, Stack)  # for the type checker: `why_not` has said so
    for layer, params, carry in zip(stack.layers, moment.params, moment.carry, strict=True):
        if isinstance(layer, Recurrent) and not (layer.learned_carry or layer.reverse):
            layer = layer.cell  # whose influence may be elementwise
        layer = layer.resolve(x)
        model, own = settled(layer, params)
        one = Moment(model, own, carry, x, moment.fresh)
        after, x = one.advance()
        yield one, after, layer
