"""Diagnostics of a whole net, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from seqcells import _check
from seqcells._cell import Carry, Cell, Params
from seqcells._flags import Flags
from seqcells._unroll import prepare, run_plan
from seqcells.diagnostics._lag import Nudged, no_nudges, norms_by_lag
from seqcells.engines import Plan, Scan
from seqcells.layers import Layer, Recurrent


class Recurrence(NamedTuple):
    """A cell in a net with its parameters and inputs: the first arguments of any diagnostic."""

    cell: Cell
    params: Params  # of the cell
    xs: jax.Array  # [T, *B, D], in the order in which the cell reads
    carry: Carry  # [*B, ...], initial


def recurrences(
    net: Layer | Cell, params: Params, xs: ArrayLike, carry: Carry = None
) -> tuple[Recurrence, ...]:
    """Find the cells of a net, and what each is run on, so that any diagnostic runs on any layer.

    Args:
        net: a layer, such as a `Stack`, or a cell; one of your own shows its layers and cells as
            fields of its dataclass.
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
    found = []

    def note(
        layer: Recurrent, params: Params, xs: jax.Array, carry: Carry, flags: Flags, key: Any
    ) -> tuple[Carry, Any]:
        inner, fresh = layer.start(params, xs)
        first = prepare(layer.cell, inner, xs, carry, flags, fresh)[1]
        read = jnp.flip(xs, axis=0) if layer.reverse else xs
        found.append(Recurrence(layer.cell, inner, read, first))
        return Recurrent.run(layer, params, xs, carry, flags, key)

    _hooked(net, note).apply(params, xs, carry)
    return tuple(found)


def layer_gradients_by_lag(
    net: Layer | Cell,
    params: Params,
    xs: ArrayLike,
    loss: Callable[[Any], jax.Array],
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
    steps = jnp.shape(xs)[:-1]
    still = tuple(no_nudges(one.carry, steps[0]) for one in recurrences(net, params, xs, carry))

    def perturbed(nudges: tuple[Carry, ...]) -> jax.Array:
        left = iter(nudges)

        def nudged(
            layer: Recurrent, params: Params, xs: jax.Array, carry: Carry, flags: Flags, _: Any
        ) -> tuple[Carry, Any]:
            flags = flags.backward() if layer.reverse else flags
            inner, fresh = layer.start(params, xs)
            cell, carry, flags = prepare(layer.cell, inner, xs, carry, flags, fresh)
            return run_plan(Plan(Scan(), Nudged(cell)), inner, (xs, next(left)), carry, flags)

        return loss(_hooked(net, nudged).apply(params, xs, carry)[1])

    return tuple(norms_by_lag(one, steps) for one in jax.grad(perturbed)(still))


@dataclasses.dataclass(frozen=True)
class _Hooked(Recurrent):
    """A `Recurrent` that another function runs."""

    hook: Callable[..., tuple[Carry, Any]] = dataclasses.field(kw_only=True)

    def run(
        self, params: Params, xs: jax.Array, carry: Carry, flags: Flags, key: jax.Array | None
    ) -> tuple[Carry, jax.Array]:
        return self.hook(self, params, xs, carry, flags, key)


def _hooked(net: Any, hook: Callable[..., tuple[Carry, Any]]) -> Layer:
    """Rebuild a net with `hook` in the place of every `Recurrent` and cell."""
    net = Recurrent(net) if isinstance(net, Cell) else net
    _check.instance("net", net, Layer, "Stack((GRU(64), GRU(64)))")
    values = {field.name: getattr(net, field.name) for field in dataclasses.fields(net)}
    if isinstance(net, Recurrent):
        return _Hooked(**values, hook=hook)

    def within(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(within, value))
        return _hooked(value, hook) if isinstance(value, (Cell, Layer)) else value

    return dataclasses.replace(net, **{name: within(value) for name, value in values.items()})
