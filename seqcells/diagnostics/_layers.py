"""Diagnostics of a whole net, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, Unpack

import jax
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Cell
from seqcells._inputs import time_back
from seqcells._layer import Layer, Start
from seqcells._model import Model, leading
from seqcells._static import exported
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells._unroll import EveryStep, prepare, run_plan
from seqcells.diagnostics._lag import Loss, _Nudged, no_nudges, norms_by_lag
from seqcells.diagnostics._reading import Begun, Reading, begin, by_lag
from seqcells.engines import Engine, Plan, Scan


@exported
class Recurrence(NamedTuple):
    """A cell of a net with its parameters and inputs: the first arguments of any diagnostic."""

    cell: Cell
    params: Params  # of the cell
    xs: jax.Array  # [T, *B, D], in the order in which the cell reads
    carry: Carry  # [*B, ...], initial


def recurrences(
    net: Model,
    params: Params,
    xs: Inputs,
    carry: Carry = None,
    *,
    lengths: ArrayLike | None = None,
) -> tuple[Recurrence, ...]:
    """Return each cell of a net with its parameters, inputs and initial carry, for any diagnostic.

    Args:
        net: a layer, such as a `Stack`, or a cell. Your own layer must run its parts by `time.run`.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the net's initial carry; a fresh one if None.
        lengths: int[*B]; steps from there on are padding. Pass them to the diagnostic too.

    Returns:
        The net's cells in the order in which they run, the forward cell of a `Bidirectional` first.
        The xs of a cell that reads in reverse are reversed, each sequence from its own last step.

    Raises:
        TypeError: if `net` is not a layer or cell, or as `unroll`.
        ValueError: as `unroll`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.Stack((sc.GRU(4), sc.Bidirectional(sc.LSTM(3))))
    >>> params, xs = net.init(jax.random.key(0), input_size=2), jnp.ones((5, 2))
    >>> for cell, *given in recurrences(net, params, xs):
    ...     print(cell, sc.diagnostics.jacobian_by_lag(cell, *given).log_norm.shape)
    GRU(4) (6,)
    LSTM(3) (6,)
    LSTM(3) (6,)
    """
    result: list[Recurrence] = []

    def note(
        time: EveryStep, cell: Cell, params: Params, xs: Inputs, start: Start, reverse: bool
    ) -> tuple[Carry, Outputs]:
        read = by_lag(xs, time.flags) if reverse else xs
        result.append(Recurrence(cell, params, read, start.carry))
        return EveryStep.cell(time, cell, params, xs, start, None, reverse=reverse)

    _run(net, params, _begin(net, params, xs, carry, {"lengths": lengths}), note)
    return tuple(result)


def layer_gradients_by_lag(
    net: Model,
    params: Params,
    xs: Inputs,
    loss: Loss,
    carry: Carry = None,
    **reading: Unpack[Reading],
) -> tuple[jax.Array, ...]:
    """Compute ||dL/dh_{T-1-k}||_2 at every lag k for the carry h of every layer of a net.

    A zero is added to each carry after each step, and one backward pass differentiates the loss by
    all of them. The gradient therefore includes the paths through the layers above.

    Args:
        net: a layer, such as a `Stack`, or a cell, that contains no FunctionCell.
        params: its parameters.
        xs: float[T, *B, D].
        loss: ys [T, *B, H] of the net -> scalar; at padding ys are zero.
        carry: the net's initial carry; a fresh one if None.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        float[T, *B] for every cell, in the order of `recurrences`, in units of the loss per unit of
        carry. Row k is for the step k steps before the last one that the net reads, also for cells
        that read in reverse. For a sequence of n steps, rows from n on are 0.

    Raises:
        TypeError: if `net` is not a layer or cell, or contains a FunctionCell.
        ValueError: as `unroll`.
    """
    begun = _begin(net, params, xs, carry, reading)
    steps, still = leading(begun.model, begun.xs), []

    def note(
        time: EveryStep, cell: Cell, params: Params, xs: Inputs, start: Start, reverse: bool
    ) -> tuple[Carry, Outputs]:
        still.append(no_nudges(start.carry, steps[0]))
        return EveryStep.cell(time, cell, params, xs, start, None, reverse=reverse)

    _run(net, params, begun, note)

    def perturbed(nudges: list[Carry]) -> jax.Array:
        left = iter(nudges)

        def nudge(
            time: EveryStep, cell: Cell, params: Params, xs: Inputs, start: Start, reverse: bool
        ) -> tuple[Carry, Outputs]:
            flags = time.read(reverse)
            cell, carry, flags = prepare(cell, params, xs, start.carry, flags, start.fresh)
            plan = Plan(Scan(), _Nudged(cell, len(steps) - 1))
            return run_plan(plan, params, (xs, next(left)), carry, flags)

        return loss(time_back(_run(net, params, begun, nudge)[1], begun.axis))

    norms = (norms_by_lag(one, steps, begun.flags) for one in jax.grad(perturbed)(still))
    return tuple(time_back(one, begun.axis) for one in norms)


@dataclasses.dataclass(frozen=True, repr=False)
class _Hooked(EveryStep):
    """All steps, with a function that replaces the unrolling of each cell."""

    hook: Callable[..., tuple[Carry, Outputs]] = EveryStep.cell

    def cell(
        self,
        cell: Cell,
        params: Params,
        xs: Inputs,
        start: Start,
        key: jax.Array | None,
        *,
        reverse: bool = False,
        engine: Engine | None = None,
    ) -> tuple[Carry, Outputs]:
        return self.hook(self, cell, params, xs, start, reverse)


def _begin(
    net: Model, params: Params, xs: Inputs, carry: Carry, reading: Mapping[str, object]
) -> Begun:
    _check.instance("net", net, (Layer, Cell), "Stack((GRU(64), GRU(64)))")
    return begin(net, params, xs, carry, reading)


def _run(
    net: Model, params: Params, begun: Begun, hook: Callable[..., tuple[Carry, Outputs]]
) -> tuple[Carry, Outputs]:
    """Run a net with `hook` instead of the unrolling of each cell."""
    time = _Hooked(begun.forward, begun.flags.reverse, hook=hook)
    return time.run(net, params, begun.xs, Start(begun.carry, begun.flags.fresh), None)
