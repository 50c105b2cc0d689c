"""The interface of engines: static values that say how a cell is run over time."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import jax
from jax import export

from seqcells._cell import Carry, Cell, Params
from seqcells._flags import Flags
from seqcells._static import Named, Static
from seqcells._types import Inputs, Outputs


@dataclasses.dataclass(frozen=True)
class Plan(Static):
    """An engine and a cell, with every choice made for one shape of inputs.

    Attributes:
        engine: the engine, with every option set; you can pass it to `unroll`.
        cell: the cell.
    """

    engine: Engine
    cell: Cell

    def run(self, params: Params, xs: Inputs, carry: Carry, flags: Flags) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        return self.engine.run(self.cell, params, xs, carry, flags)


class Engine(Named, abc.ABC):
    """One way to run a cell over time.

    Subclasses are frozen dataclasses and static in JAX.
    """

    @abc.abstractmethod
    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return why this engine cannot run the cell on these inputs, or None.

        Args:
            cell: the cell.
            xs: the inputs [T, *B, D], or their `jax.ShapeDtypeStruct`.
            flags: lengths, masks, resets and direction.

        Returns:
            The reason as a clause for an error message, or None if it can.
        """

    def why_slow(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return why this engine, although it can run the cell, should not be selected, or None.

        An engine with such a reason runs only if the user names it.
        """
        return None

    def resolve(self, cell: Cell, xs: Inputs, flags: Flags) -> Plan:
        """Choose the options that are None, for a cell and inputs that `why_not` allows."""
        return Plan(self, cell)

    @abc.abstractmethod
    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""


def open_length(xs: Inputs) -> bool:
    """Return whether the number of steps of xs [T, *B, ...] is symbolic, as in `jax.export`."""
    return export.is_symbolic_dim(jax.tree.leaves(xs)[0].shape[0])


def best(engines: Sequence[Engine], cell: Cell, xs: Inputs, flags: Flags) -> Engine:
    """Return the first engine that can run this and is not slow, or else the last that can."""
    able = [engine for engine in engines if engine.why_not(cell, xs, flags) is None]
    return next((e for e in able if e.why_slow(cell, xs, flags) is None), able[-1])
