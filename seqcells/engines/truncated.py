"""Truncated backpropagation through time: values over all steps, gradients within a window."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._trees import closed_over
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells.engines._engine import Engine, Plan, best, open_length
from seqcells.engines.deferred import Deferred
from seqcells.engines.scan import Scan, in_chunks


@dataclasses.dataclass(frozen=True)
class Truncated(Engine):
    """Pass the carry from window to window, and stop its gradient in between.

    Values are those of `engine`. A gradient stays within its own window; with a window of T or more
    steps it is the full gradient. This engine runs only if you name it.

    Args:
        window: steps per window, at least 1, counted from where reading begins.
        engine: how a window is run; None picks the faster of `Deferred` and `Scan`.

    Raises:
        ValueError: on a window below 1.
        TypeError: on an argument of the wrong type.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(1, "identity", bias="none")
    >>> params = sc.RNNParams(*jnp.ones((2, 1, 1)), None)
    >>> def last(xs, engine):
    ...     return sc.unroll(cell, params, xs, engine=engine)[0][0]
    >>> jax.grad(last)(jnp.ones((5, 1)), sc.Truncated(window=2)).ravel().tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0]
    """

    window: int
    engine: Engine | None = None

    def __post_init__(self) -> None:
        _check.size("window", self.window, least=1)
        if self.engine is not None:
            _check.instance("engine", self.engine, Engine, "Scan()")

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that the number of steps is symbolic, or the inner engine's reason, or None."""
        if open_length(xs):
            return "it cuts the steps into windows, and their number is symbolic"
        return None if self.engine is None else self.engine.why_not(cell, xs, flags)

    def resolve(self, cell: Cell, xs: Inputs, flags: Flags) -> Plan:
        """Choose the inner engine; it resolves its own options for each window."""
        return Plan(dataclasses.replace(self, engine=self._inner(cell, xs, flags)), cell)

    def _inner(self, cell: Cell, xs: Inputs, flags: Flags) -> Engine:
        return self.engine or best((Deferred(), Scan()), cell, xs, flags)

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        length, window = jax.tree.leaves(xs)[0].shape[0], self.window
        engine = self._inner(cell, xs, flags)
        if length <= window:
            return engine.run(cell, params, xs, carry, flags)

        held, back = closed_over((params, flags.fresh))

        def piece(carry: Carry, inputs: PyTree) -> tuple[Carry, PyTree]:
            params, fresh = back(held)
            xs, valid, restart = inputs
            part = dataclasses.replace(flags, valid=valid, restart=restart, fresh=fresh)
            return engine.run(cell, params, xs, carry, part)

        def later(carry: Carry, inputs: PyTree) -> tuple[Carry, PyTree]:
            return piece(jax.lax.stop_gradient(carry), inputs)

        inputs = (xs, flags.valid, flags.restart)
        first, rest = slice(None, window), slice(window, None)
        if flags.reverse:
            first, rest = slice(length - window, None), slice(None, length - window)
        carry, one = piece(carry, _cut(inputs, first))
        carry, others = in_chunks(
            later, carry, _cut(inputs, rest), chunk=window, reverse=flags.reverse
        )
        parts = (others, one) if flags.reverse else (one, others)
        return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *parts)


def _cut(tree: PyTree, steps: slice) -> PyTree:
    return jax.tree.map(lambda a: a[steps], tree)
