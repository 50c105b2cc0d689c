"""What an engine is: one way through time, as a static value."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from seqcells._cell import Carry, Cell, Params
from seqcells._flags import Flags
from seqcells._static import Named


class Engine(Named, abc.ABC):
    """One way to run a cell over time.

    Subclasses are frozen dataclasses, and static values to JAX.
    """

    @abc.abstractmethod
    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say why this engine cannot run the cell on these inputs, or return None.

        Args:
            cell: the cell.
            xs: the inputs [T, *B, D], or their `jax.ShapeDtypeStruct`.
            flags: lengths, masks, resets and direction.

        Returns:
            The reason as half a sentence, or None where there is no objection.
        """

    def why_slow(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say why another engine is the better choice for what this one can run, or return None.

        An engine that has a reason runs when it is named, and is not selected otherwise.
        """
        return None

    def settled(self, cell: Cell, xs: Any) -> Engine:
        """Return this engine with what it leaves open chosen for a cell and inputs [T, *B, D]."""
        return self

    @abc.abstractmethod
    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""


def best(engines: Sequence[Engine], cell: Cell, xs: Any, flags: Flags) -> Engine:
    """Return the first engine that has no objection, or the last one that can run this at all."""
    able = [engine for engine in engines if engine.why_not(cell, xs, flags) is None]
    return next((e for e in able if e.why_slow(cell, xs, flags) is None), able[-1])
