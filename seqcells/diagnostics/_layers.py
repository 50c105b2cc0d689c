"""Diagnostics of a whole net, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._inputs import time_first
from seqcells._layer import Layer, Start
from seqcells._model import Model, leading
from seqcells._static import exported
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells._unroll import EveryStep, begin, prepare, run_plan
from seqcells.diagnostics._lag import Loss, _Nudged, no_nudges, norms_by_lag
from seqcells.engines import Engine, Plan, Scan


@exported
class Recurrence(NamedTuple):
    """A cell in a net with its parameters and inputs: the first arguments of any diagnostic."""

    cell: Cell
    params: Params  # of the cell
    xs: jax.Array  # [T, *B, D], in the order in which the cell reads
    carry: Carry  # [*B, ...], initial


def recurrences(
    net: Model, params: Params, xs: Inputs, carry: Carry = None
) -> tuple[Recurrence, ...]:
    """Return each cell of a net with its parameters, inputs and initial carry, for any diagnostic.

    Args:
        net: a layer, such as a `Stack`, or a cell; one of your own runs its parts by `time.run`.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the net's initial carry; a fresh one if None.

    Returns:
        The net's cells in the order in which they run, the forward cell of a `Bidirectional` first.
        The xs of a cell that reads in reverse are reversed.

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
        read = jax.tree.map(lambda a: jnp.flip(a, axis=0), xs) if reverse else xs
        result.append(Recurrence(cell, params, read, start.carry))
        return EveryStep.cell(time, cell, params, xs, start, None, reverse=reverse)

    _run(net, params, xs, carry, note)
    return tuple(result)


def layer_gradients_by_lag(
    net: Model,
    params: Params,
    xs: Inputs,
    loss: Loss,
    carry: Carry = None,
) -> tuple[jax.Array, ...]:
    """Compute ||dL/dh_{T-1-k}||_2 at every lag k for the carry h of every layer of a net.

    A zero is added to each carry after each step, and one backward pass differentiates the loss by
    all of them. The gradient therefore includes the paths through the layers above.

    Args:
        net: a layer, such as a `Stack`, or a cell, that contains no FunctionCell.
        params: its parameters.
        xs: float[T, *B, D].
        loss: ys [T, *B, H] of the net -> scalar.
        carry: the net's initial carry; a fresh one if None.

    Returns:
        float[T, *B] for every cell, in the order of `recurrences`, in units of the loss per unit of
        carry. Row k is k steps of time before the last, also for a cell that reads in reverse.

    Raises:
        TypeError: if `net` is not a layer or cell, or contains a FunctionCell.
        ValueError: as `unroll`.
    """
    xs, _ = time_first(net, xs)
    steps = leading(net, xs)
    still = tuple(no_nudges(one.carry, steps[0]) for one in recurrences(net, params, xs, carry))

    def perturbed(nudges: tuple[Carry, ...]) -> jax.Array:
        left = iter(nudges)

        def nudge(
            time: EveryStep, cell: Cell, params: Params, xs: Inputs, start: Start, reverse: bool
        ) -> tuple[Carry, Outputs]:
            flags = time.read(reverse)
            cell, carry, flags = prepare(cell, params, xs, start.carry, flags, start.fresh)
            plan = Plan(Scan(), _Nudged(cell, len(steps) - 1))
            return run_plan(plan, params, (xs, next(left)), carry, flags)

        return loss(_run(net, params, xs, carry, nudge)[1])

    return tuple(norms_by_lag(one, steps) for one in jax.grad(perturbed)(still))


@dataclasses.dataclass(frozen=True, repr=False)
class _Hooked(EveryStep):
    """All steps, with a function in the place of each cell's unrolling."""

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


def _run(
    net: Model,
    params: Params,
    xs: Inputs,
    carry: Carry,
    hook: Callable[..., tuple[Carry, Outputs]],
) -> tuple[Carry, Outputs]:
    """Run a net with `hook` in the place of each cell's unrolling."""
    _check.instance("net", net, (Layer, Cell), "Stack((GRU(64), GRU(64)))")
    _, xs, carry, ready = begin(net, params, xs, carry)
    time = _Hooked(Flags(), hook=hook)
    return time.run(net, params, xs, Start(carry, ready.fresh), None)
