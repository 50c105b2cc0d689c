"""The contract of engines: how a cell is run over time, as a static value."""

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
        engine: the engine, with every option spelled out; a user can name it in `unroll`.
        cell: the cell.
    """

    engine: Engine
    cell: Cell

    def run(self, params: Params, xs: Inputs, carry: Carry, flags: Flags) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        return self.engine.run(self.cell, params, xs, carry, flags)


class Engine(Named, abc.ABC):
    """One way to run a cell over time.

    Subclasses are frozen dataclasses, and static values to JAX.
    """

    @abc.abstractmethod
    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return why this engine cannot run the cell on these inputs, or None.

        Args:
            cell: the cell.
            xs: the inputs [T, *B, D], or their `jax.ShapeDtypeStruct`.
            flags: lengths, masks, resets and direction.

        Returns:
            The reason as half a sentence, or None if there is no objection.
        """

    def why_slow(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return why another engine is the better choice for what this one can run, or None.

        An engine with a reason runs if it is named, and is not selected otherwise.
        """
        return None

    def resolve(self, cell: Cell, xs: Inputs, flags: Flags) -> Plan:
        """Choose the options that are left open, for a cell and inputs that `why_not` allows."""
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
    """Return the first engine without any objection, or else the last that can run this at all."""
    able = [engine for engine in engines if engine.why_not(cell, xs, flags) is None]
    return next((e for e in able if e.why_slow(cell, xs, flags) is None), able[-1])
