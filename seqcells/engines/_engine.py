"""What an engine is: one way through time, as a static value."""

from __future__ import annotations

import abc
from typing import Any

import jax

from seqcells._cell import Carry, Cell, Params
from seqcells._flags import Flags


class Engine(abc.ABC):
    """One way to run a cell over time.

    Subclasses are frozen dataclasses, registered with JAX as static values.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)

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

    @abc.abstractmethod
    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
