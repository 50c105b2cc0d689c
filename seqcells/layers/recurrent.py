"""A cell over time, with its own direction, learned first carry and engine."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell
from seqcells._layer import Layer, Start, Time
from seqcells._model import carry_shapes, like, one_input, start_carry
from seqcells._static import exported
from seqcells._trees import as_rows
from seqcells._types import Carry, Inputs, InputSize, Outputs, Params
from seqcells.engines import Engine


@exported
class RecurrentParams(NamedTuple):
    """Parameters of `Recurrent(learned_carry=True)`."""

    cell: Params  # of the cell
    carry: Carry  # the carry that every sequence starts from, without batch axes, such as [H]


@dataclasses.dataclass(frozen=True)
class Recurrent(Layer):
    """A cell over time.

    Its parameters are those of the cell, or `RecurrentParams` with a learned carry.

    Args:
        cell: any cell.
        reverse: read each sequence from its own last valid step.
        learned_carry: whether the carry with which a sequence starts, also after a reset, is a
            parameter; its initial value is the cell's own.
        engine: how the loop is run; None means the engine of the call.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> layer = sc.Recurrent(sc.GRU(4), learned_carry=True)
    >>> params = layer.init(jax.random.key(0), input_size=2)
    >>> carry, ys = sc.unroll(layer, params, jnp.ones((5, 3, 2)), lengths=jnp.array([5, 2, 0]))
    >>> ys.shape
    (5, 3, 4)
    """

    cell: Cell
    reverse: bool = False
    learned_carry: bool = False
    engine: Engine | None = None

    def __post_init__(self) -> None:
        _check.instance("cell", self.cell, Cell, "GRU(64)")
        _check.flag("reverse", self.reverse)
        _check.flag("learned_carry", self.learned_carry)
        if self.engine is not None:
            _check.instance("engine", self.engine, Engine, "Scan()")

    @property
    def reader(self) -> Cell:
        """The cell."""
        return self.cell

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Make the parameters of the cell, and the carry if it is learned."""
        params = self.cell.init(key, input_size)
        if not self.learned_carry:
            return params
        x = self.zero_input(input_size)
        return RecurrentParams(params, start_carry(self.cell, x, params))

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make the carry of the cell, or broadcast the learned one.

        Raises:
            ValueError: if the carry is learned and `params` is None.
        """
        x = one_input(self, x)
        cell = self.cell.resolve(x)
        if not self.learned_carry:
            return cell.init_carry(x, params)
        if params is None:
            raise ValueError(
                f"params: expected RecurrentParams, which hold the first carry of {self}, got "
                "None; pass them to init_carry"
            )
        self.check_params(params, self.input_size(x))
        fresh = cell.init_carry(x, params.cell)

        def rows(learned: jax.Array, own: jax.Array) -> jax.Array:  # sharded like the cell's own
            return as_rows(jnp.asarray(learned, own.dtype), own) + jnp.zeros_like(own)

        return jax.tree.map(rows, params.carry, fresh)

    def check_params(self, params: Params, input_size: InputSize) -> None:
        """Raise a ValueError unless `params` fit the cell, and a learned carry its carry."""
        if not self.learned_carry:
            return self.cell.check_params(params, input_size)
        if not isinstance(params, RecurrentParams):
            raise ValueError(
                f"params: expected RecurrentParams(cell, carry) for {self}, "
                f"got {_check.describe(params)}"
            )
        self.cell.check_params(params.cell, input_size)
        x = self.zero_input(input_size)
        like("params.carry", params.carry, carry_shapes(self.cell, x, params.cell), x)

    def run(
        self, params: Params, xs: Inputs, start: Start, time: Time, key: jax.Array | None
    ) -> tuple[Carry, Outputs]:
        """Run the cell."""
        params = params.cell if self.learned_carry else params
        options = {"reverse": self.reverse, "engine": self.engine}
        return time.cell(self.cell, params, xs, start, key, **options)
