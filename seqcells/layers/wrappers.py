"""Cells around a cell: variational dropout and zoneout.

`unroll(..., key=key)` draws the noise of all steps at once, and `step(..., key=key)` that of one.
Without a key they evaluate. The same key gives the same noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check
from seqcells._cell import Cell, SplitCell
from seqcells._model import fresh_carry
from seqcells._shares import bernoulli
from seqcells._trees import select
from seqcells._types import (
    Carry,
    Drive,
    Inputs,
    InputSize,
    Mixed,
    Outputs,
    Params,
    PyTree,
)


@dataclasses.dataclass(frozen=True)
class _Wrapper(Cell):
    """A cell that delegates to its inner cell, unless a subclass overrides a method."""

    cell: Cell

    def __post_init__(self) -> None:
        _check.instance("cell", self.cell, Cell, "GRU(64)")

    @property
    def reader(self) -> Cell:
        """The inner cell."""
        return self.cell

    @property
    def casts_params(self) -> bool:
        """The same as for the inner cell."""
        return self.cell.casts_params

    def init(self, key: jax.Array, input_size: InputSize) -> Params:
        """Make the parameters of the inner cell."""
        return self.cell.init(key, input_size)

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        """Make the carry of the inner cell."""
        return self.cell.init_carry(x, params)

    def project(self, params: Params, x: Inputs) -> Drive:
        """Project as the inner cell."""
        return self.cell.project(params, x)

    def recur(self, params: Params, carry: Carry, drive: Drive) -> Carry:
        """Compute the next carry, in a step without a reset."""
        return self.next_carry(params, carry, drive, None)

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        """Compute the next carry of the inner cell."""
        return self.cell.next_carry(params, carry, drive, fresh)

    def read(self, params: Params, carry: Carry, drive: Drive) -> Outputs:
        """Read the output of the inner cell."""
        return self.cell.read(params, carry, drive)

    def gates(
        self, params: Params, carry: Carry, drive: Drive, mixed: Mixed = None
    ) -> dict[str, jax.Array]:
        """Compute the gates of the inner cell."""
        return self.cell.gates(params, carry, drive, mixed)

    def map_features(self, function: Callable[[jax.Array], jax.Array], xs: Inputs) -> Inputs:
        """As the cell within."""
        return self.cell.map_features(function, xs)

    @property
    def settled(self) -> Cell:
        """This wrapper around what the cell within runs as."""
        cell = self.cell.settled
        return self if cell is self.cell else dataclasses.replace(self, cell=cell)

    def settle(self, params: Params) -> Params:
        """As the cell within."""
        return self.cell.settle(params)

    def resolve(self, x: Inputs) -> Self:
        """Resolve the inner cell."""
        return dataclasses.replace(self, cell=self.cell.resolve(x))


@dataclasses.dataclass(frozen=True)
class VariationalDropout(_Wrapper):
    """Dropout with one mask per sequence, the same at every step (Gal & Ghahramani 2016).

    Kept features are scaled by 1 / (1 - rate). The recurrent mask applies to the h that enters the
    recurrent product, not to the h that the gates keep.

    Args:
        cell: any cell; with a `recurrent_rate`, a `SplitCell` that can be split.
        input_rate: share of input features that are dropped, 0 to 1. Of `GRUD` these are values,
            and neither the flags nor the times.
        recurrent_rate: share of carried features that are dropped, 0 to 1.

    Raises:
        ValueError: on a rate outside [0, 1), or a recurrent one for a cell that cannot be split.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.VariationalDropout(sc.GRU(4), input_rate=0.5, recurrent_rate=0.5)
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> _, ys = sc.unroll(cell, params, jnp.ones((5, 2)), key=jax.random.key(1))  # training
    >>> _, ys = sc.unroll(cell, params, jnp.ones((5, 2)))  # evaluation
    """

    input_rate: float = 0.0
    recurrent_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.rate("input_rate", self.input_rate)
        _check.rate("recurrent_rate", self.recurrent_rate)
        if self.recurrent_rate:
            check_split("recurrent_rate", self.cell)

    def noisy(self, params: Params, xs: Inputs, key: jax.Array) -> tuple[Cell, Params, Inputs]:
        """Draw the masks: [*B, D] for the inputs, and one shaped like the carry."""
        k_input, k_carry, k_cell = jax.random.split(key, 3)
        fresh = fresh_carry(self.cell, xs, params)
        seen = _drop_inputs(k_input, self.input_rate, self.cell, xs)
        cell, params, seen = self.cell.noisy(params, seen, k_cell)
        if not self.recurrent_rate:
            return cell, params, seen
        mask = jax.tree.map(
            lambda k, a: _kept(k, self.recurrent_rate, a.shape, a.dtype),
            _keys_like(k_carry, fresh),
            fresh,
        )
        return _Masked(check_split("cell", cell)), _MaskedParams(params, mask), seen


class _MaskedParams(NamedTuple):
    cell: Params
    mask: Carry  # shaped like the carry; 0 or 1 / (1 - rate)


class _Masked(_Wrapper):
    """A split cell whose recurrent product sees its carry through a mask."""

    cell: SplitCell

    def __repr__(self) -> str:
        return f"VariationalDropout({self.cell}) with a key"

    def init_carry(self, x: Inputs, params: _MaskedParams | None = None) -> Carry:
        return self.cell.init_carry(x, None if params is None else params.cell)

    def settle(self, params: _MaskedParams) -> _MaskedParams:
        return params._replace(cell=self.cell.settle(params.cell))

    def project(self, params: _MaskedParams, x: Inputs) -> Drive:
        return self.cell.project(params.cell, x)

    def next_carry(
        self, params: _MaskedParams, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        seen = jax.tree.map(jnp.multiply, carry, params.mask)
        return self.cell.gate(carry, drive, self.cell.mix(params.cell, seen))

    def read(self, params: _MaskedParams, carry: Carry, drive: Drive) -> Outputs:
        return self.cell.read(params.cell, carry, drive)


@dataclasses.dataclass(frozen=True)
class Zoneout(_Wrapper):
    """Zoneout (Krueger et al. 2017): at every step some units keep their old carry.

    In evaluation the carry is the mean: rate * old + (1 - rate) * new.

    Args:
        cell: any cell with `read`, so not a `FunctionCell`.
        rate: share of units that keep their old carry, 0 to 1; or a tuple with one for every leaf
            of the carry, such as (h, c) for LSTM.

    Raises:
        ValueError: on a rate outside [0, 1).
    """

    rate: float | tuple[float, ...] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for rate in self.rate if isinstance(self.rate, tuple) else (self.rate,):
            _check.rate("rate", rate)

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        """Compute the mean of the next carry."""
        new = self.cell.next_carry(params, carry, drive, fresh)
        rates = self._rates(carry)
        return jax.tree.map(lambda old, new, r: r * old + (1 - r) * new, carry, new, rates)

    def noisy(self, params: Params, xs: Inputs, key: jax.Array) -> tuple[Cell, Params, Inputs]:
        """Draw which units keep their carry, bool[T, *B, ...], shaped like the carry."""
        k_keep, k_cell = jax.random.split(key)
        fresh = fresh_carry(self.cell, xs, params)
        length = jax.tree.leaves(xs)[0].shape[0]
        keep = jax.tree.map(
            lambda k, a, rate: bernoulli(k, rate, (length, *a.shape), axis=1),
            _keys_like(k_keep, fresh),
            fresh,
            self._rates(fresh),
        )
        cell, params, xs = self.cell.noisy(params, xs, k_cell)
        return _Kept(cell), params, (xs, keep)

    def _rates(self, carry: Carry) -> PyTree:
        """Return one rate for every leaf of the carry."""
        structure = jax.tree.structure(carry)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * structure.num_leaves
        if len(rates) != structure.num_leaves:
            leaves = structure.num_leaves
            raise ValueError(
                f"rate: expected one or a tuple of {leaves} for {self.cell}, got {rates}"
            )
        return jax.tree.unflatten(structure, rates)


class _Kept(_Wrapper):
    """A cell that reads (x, keep) and keeps its old carry where `keep` says so."""

    def __repr__(self) -> str:
        return f"Zoneout({self.cell}) with a key"

    def init_carry(self, x: Inputs, params: Params = None) -> Carry:
        return self.cell.init_carry(x[0], params)

    def project(self, params: Params, x: Inputs) -> Drive:
        return self.cell.project(params, x[0]), x[1]

    def next_carry(
        self, params: Params, carry: Carry, drive: Drive, fresh: jax.Array | None
    ) -> Carry:
        drive, keep = drive
        new = self.cell.next_carry(params, carry, drive, fresh)
        return jax.tree.map(select, keep, carry, new)

    def read(self, params: Params, carry: Carry, drive: Drive) -> Outputs:
        return self.cell.read(params, carry, drive[0])


def check_split(name: str, cell: Cell) -> SplitCell:
    """Return a cell that can be split, or raise."""
    why_not = cell.why_not_split()
    if why_not is None and isinstance(cell, SplitCell):
        return cell
    raise ValueError(f"{name}: expected a cell that can be split, got {cell}: {why_not}")


def _kept(key: jax.Array, rate: float, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Draw 0 with probability `rate`, otherwise 1 / (1 - rate)."""
    return bernoulli(key, 1 - rate, shape, axis=0).astype(dtype) / (1 - rate)


def _drop_inputs(key: jax.Array, rate: float, cell: Cell, xs: Inputs) -> Inputs:
    """Drop features of a cell's inputs, arrays [T, *B, ...], the same at every step."""
    count = len(jax.tree.leaves(xs))
    keys = iter([key] if count == 1 else jax.random.split(key, count))

    def drop(a: jax.Array) -> jax.Array:
        return a * _kept(next(keys), rate, a.shape[1:], a.dtype)[None]

    return cell.map_features(drop, xs) if rate else xs


def _keys_like(key: jax.Array, tree: PyTree) -> PyTree:
    """Return one key for every leaf."""
    structure = jax.tree.structure(tree)
    return jax.tree.unflatten(structure, list(jax.random.split(key, structure.num_leaves)))
