"""Sparse n-step approximation: the influence of a parameter on the units that it soon reaches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import _check
from seqcells._cell import Cell, SplitCell, recurrent_matrix
from seqcells._types import Carry, Drive, Inputs, Mixed, Params
from seqcells.layers import Constrained, SparsePattern
from seqcells.online import _forms
from seqcells.online._influence import Dense, Form, Influence, Units, unit_blocks
from seqcells.online._moment import Moment, Row, State, floats
from seqcells.online._rule import Formed


@dataclasses.dataclass(frozen=True)
class SnAp(Formed):
    """Sparse n-step approximation, SnAp-n (Menick et al. 2021).

    Of the influence P_t of `RTRL`, it keeps the numbers that are not zero n steps after a parameter
    is used, and sets the others to zero in every step::

        P_t = M * (J_t P_{t-1} + F_t)        M = 1 where a parameter reaches a unit in n steps

    With n = 1 these are a number for each entry of the parameters and leaf of the carry, and only
    the blocks of J_t count by which a unit reads itself. A step costs about three times a forward
    step, in a memory of the size of the parameters for each row. The gradient lacks what passes
    from unit to unit and back. For an elementwise recurrence, nothing does, and SnAp-1 is `RTRL`.

    A larger n is for sparse recurrences, `Constrained` with a `SparsePattern`: n = 2 also keeps the
    influence on the units that read the unit of a parameter, and so on. For a dense recurrence,
    SnAp-2 keeps everything, so it is refused: use `RTRL`.

    Args:
        model: a `SplitCell` whose class declares its products (RECURRENT_WEIGHTS, INPUT_WEIGHTS) or
            RECURRENT_MATRIX and UNIT_WEIGHTS; or a cell whose recurrence is elementwise.
        n: steps, at least 1.

    Raises:
        TypeError: if this is no cell.
        ValueError: if n is below 1, or above 1 for a recurrence that is not sparse. `init` and
            `step` raise it for a cell without these declarations.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> rule = sc.online.SnAp(sc.GRU(4))
    >>> trace = rule.init(rule.model.init(jax.random.key(0), 2), jnp.ones((3, 2)))
    >>> trace.influence.w_hh.shape  # [*B, 1, H, 3H]
    (3, 1, 4, 12)
    """

    model: Cell
    n: int = 1

    def __post_init__(self) -> None:
        _check.instance("model", self.model, Cell, "GRU(64)")
        _check.size("n", self.n, least=1)
        if self.n > 1 and self._pattern is None:
            raise ValueError(
                f"n: expected 1 for {self.model}, whose recurrence is not sparse, got {self.n}: "
                "every unit may reach every other one, so write RTRL(cell); or make it sparse, "
                "Constrained(cell, pattern=SparsePattern(0.1))"
            )

    @property
    def _pattern(self) -> SparsePattern | None:
        return self.model.pattern if isinstance(self.model, Constrained) else None

    def _form(self, moment: Moment) -> Form:
        cell, traced, own = one_unit_each(self, moment)
        pairs = _forms.elementwise(moment)
        if pairs is not None:
            return Units(traced, own, pairs)
        if self._pattern is None or self.n == 1:
            pairs = _forms.all_pairs(moment)
            return SelfReading(traced, own, pairs, str(recurrent_matrix(cell)))
        return Reached(traced, self._pattern, floats(moment.carry)[0].shape[-1], self.n)


def one_unit_each(rule: Formed, moment: Moment) -> tuple[Cell, tuple[int, ...], tuple[bool, ...]]:
    """Return the cell, and which leaves of the parameters reach the carry, or raise.

    Raises:
        ValueError: unless each entry of these reaches one unit in a step, and the recurrence is
            elementwise, or that of a split cell with a declared matrix.
    """
    cell, own, why_not = moment.model, _forms.own(moment), None
    traced = _forms.traced(moment)
    if not isinstance(cell, Cell) or own is None or moment.keeps_output():
        why_not = "it has no carry of units, [*B, H] in each leaf, from which y is read"
    elif _forms.elementwise(moment) is None:
        why_not = cell.why_not_split()
        if why_not is None and recurrent_matrix(cell) is None:
            why_not = "its class declares neither RECURRENT_WEIGHTS nor RECURRENT_MATRIX"
    if why_not is None and own is not None:
        leaves = jax.tree_util.tree_leaves_with_path(moment.params)
        shared = [jax.tree_util.keystr(leaves[i][0], simple=True) for i in traced if not own[i]]
        if shared:
            why_not = f"its class does not declare {', '.join(shared)} in UNIT_WEIGHTS"
    if why_not is not None or not isinstance(cell, Cell) or own is None:
        raise ValueError(
            f"model: expected a cell for {type(rule).__name__}, each of whose parameters reaches "
            f"one unit in a step, got {cell}: {why_not}; use RTRL or UORO"
        )
    return cell, traced, tuple(own[i] for i in traced)


@dataclasses.dataclass(frozen=True)
class SelfReading(Units):
    """Of J_t, the blocks by which a unit of a split cell reads itself.

    Attributes:
        matrix: the field of params with the recurrent matrix [H, G*H].
    """

    matrix: str

    def jacobian(self, row: Row) -> list[list[jax.Array]]:
        """Differentiate with a recurrent matrix of which the diagonals of its blocks are left."""
        cell, params, x = split_cell(row)
        w = getattr(params, self.matrix)
        diagonals = jnp.tile(jnp.eye(w.shape[0], dtype=bool), w.shape[1] // w.shape[0])
        alone = params._replace(**{self.matrix: jnp.where(diagonals, w, 0)})
        return split_blocks(cell, params, row.carry, x, lambda carry: cell.mix(alone, carry))


def split_cell(row: Row) -> tuple[SplitCell, Params, Inputs]:
    """Return what a row's step is computed with, of a split cell."""
    cell, params, x = row.drawn(row.params)
    assert isinstance(cell, SplitCell)  # for the type checker: `one_unit_each` has raised
    return cell, params, x


def split_blocks(
    cell: SplitCell, params: Params, carry: Carry, x: Inputs, mix: Callable[[Carry], Mixed]
) -> list[list[jax.Array]]:
    """Differentiate the gate of a split cell, whose product has the derivative of `mix`."""
    drive, mixed = cell.project(params, x), cell.mix(params, carry)

    def along(tangent: Carry) -> Carry:
        of_mixed = jax.jvp(mix, (carry,), (tangent,))[1]
        gate = functools.partial(_gate, cell, drive)
        return jax.jvp(gate, (carry, mixed), (tangent, of_mixed))[1]

    return unit_blocks(along, carry)


def _gate(cell: SplitCell, drive: Drive, carry: Carry, mixed: Mixed) -> Carry:
    return cell.gate(carry, drive, mixed)


@dataclasses.dataclass(frozen=True)
class Reached(Form):
    """The influence of a parameter of a unit on those M units at most that it reaches in n steps.

    P is [k, M, *leaf.shape]: entry m of a parameter of unit u stands for unit `units(u)[m]`. Unit u
    itself is the first; where there are fewer than M, the rest is zero.

    Attributes:
        pattern: which units are connected.
        size: H, the number of units.
        n: steps.
    """

    traced: tuple[int, ...]
    pattern: SparsePattern
    size: int
    n: int

    def jacobian(self, row: Row) -> jax.Array:
        """Compute J, and of it, for each unit u, that between the units that u reaches."""
        k = len(floats(row.carry))
        every = Dense(self.traced).jacobian(row).reshape(k, self.size, k, self.size)
        units, there = _reached(self.pattern, self.size, self.n)
        pairs = every[:, units[:, None], :, units[None]]  # [M, M, H, k, k]
        pairs = jnp.where((there[:, None] & there[None])[..., None, None], pairs, 0)
        return jnp.transpose(pairs, (3, 0, 4, 1, 2))  # [k, M, k, M, H]

    def derivative(self, function: Callable[[Params], State], params: Params) -> Influence:
        """Differentiate: in one step, a parameter reaches the unit that it belongs to."""
        own = Units(self.traced, (True,) * len(self.traced), ())
        most = _reached(self.pattern, self.size, self.n)[0].shape[0]

        def leaf(a: jax.Array) -> jax.Array:
            return jnp.pad(a[:, None], [(0, 0), (0, most - 1), *[(0, 0)] * (a.ndim - 1)])

        return [leaf(a) for a in own.derivative(function, params)]

    def push(self, blocks: jax.Array, influence: Influence) -> Influence:
        """Multiply, for each unit, J between the units that it reaches by what reached them."""

        def leaf(p: jax.Array) -> jax.Array:
            parts = p.reshape(*p.shape[:2], -1, self.size)  # [k, M, the other axes, H]
            return jnp.einsum("iajbu,jblu->ialu", blocks.astype(p.dtype), parts).reshape(p.shape)

        return [leaf(p) for p in influence]

    def pull(self, cotangent: State, influence: Influence) -> Influence:
        """Sum over the units that each parameter reaches."""
        units, there = _reached(self.pattern, self.size, self.n)
        weights = jnp.stack(floats(cotangent[0]))[:, units]  # [k, M, H]
        weights = jnp.where(there[None], weights, 0)

        def leaf(p: jax.Array) -> jax.Array:
            parts = p.reshape(*p.shape[:2], -1, self.size)
            return jnp.einsum("iau,ialu->lu", weights.astype(p.dtype), parts).reshape(p.shape[2:])

        return [leaf(p) for p in influence]


@functools.lru_cache(64)
def _reached(pattern: SparsePattern, size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which units each unit reaches in n - 1 steps, int[M, H], and which of them count."""
    reads = pattern.mask(size)  # a column reads a row
    reached = np.eye(size, dtype=bool)
    for _ in range(n - 1):
        reached |= reached @ reads
    most = int(reached.sum(1).max())
    later = ~np.eye(size, dtype=bool) * 1 + ~reached * 1  # itself, then those reached, then others
    order = np.argsort(later, axis=1, kind="stable")[:, :most]
    return order.T, np.take_along_axis(reached, order, axis=1).T
