"""How the carry of a sequence is written as blocks of numbers, between which a step has no slopes.

Newton's method needs the carries h_t as numbers in an array, and the Jacobian of a step by them. A
`Layout` writes the carry of a sequence, of S numbers in all, as U blocks of K numbers. The Jacobian
of a step is then U blocks [K, K]; slopes between two blocks are zero, or are left out::

    "full"          U = 1, K = S    all numbers of a carry in one block
    "diagonal"      U = S, K = 1    each number alone; other slopes are left out
    "elementwise"   K leaves        block u has entry u of every leaf; for elementwise steps
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._static import Static
from seqcells._types import Carry, Drive, Params, Shape, TreeDef
from seqcells.engines.deferred.slopes import NotElementwiseError, dependence

FULL, DIAGONAL, ELEMENTWISE = "full", "diagonal", "elementwise"


@dataclasses.dataclass(frozen=True)
class Layout(Static):
    """How the carries of sequences are written as an array [..., U, K].

    Attributes:
        kind: "full", "diagonal" or "elementwise".
        structure: the tree structure of a carry.
        shapes: the shape of each leaf of the carry of one sequence, without batch axes.
        dtypes: the dtype of each leaf.
    """

    kind: str
    structure: TreeDef
    shapes: tuple[Shape, ...]
    dtypes: tuple[jnp.dtype, ...]

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the array: that of the widest leaf, and at least float32."""
        widest = max(jnp.finfo(dtype).bits for dtype in self.dtypes)
        return jnp.dtype(jnp.float64 if widest > 32 else jnp.float32)

    @property
    def exact(self) -> bool:
        """Whether the Jacobian of a step is zero outside of its blocks."""
        return self.kind != DIAGONAL

    def flatten(self, carry: Carry) -> jax.Array:
        """Write carries [..., *shape] as an array [..., U, K]."""
        pairs = zip(jax.tree.leaves(carry), self.shapes, strict=True)
        flat = [
            a.astype(self.dtype).reshape(*a.shape[: a.ndim - len(shape)], math.prod(shape))
            for a, shape in pairs
        ]
        if self.kind == ELEMENTWISE:
            return jnp.stack(flat, axis=-1)
        return jnp.expand_dims(jnp.concatenate(flat, axis=-1), self._single)

    def unflatten(self, blocks: jax.Array) -> Carry:
        """Undo `flatten`."""
        sizes, lead = list(map(math.prod, self.shapes)), blocks.shape[:-2]
        if self.kind == ELEMENTWISE:
            flat = [blocks[..., i] for i in range(len(sizes))]
        else:
            ends = [sum(sizes[:i]) for i in range(1, len(sizes))]
            flat = jnp.split(jnp.squeeze(blocks, self._single), ends, axis=-1)
        leaves = (
            a.reshape(*lead, *shape).astype(dtype)
            for a, shape, dtype in zip(flat, self.shapes, self.dtypes, strict=True)
        )
        return jax.tree.unflatten(self.structure, leaves)

    @property
    def _single(self) -> int:
        """The axis of size 1."""
        return -2 if self.kind == FULL else -1


def layout_of(
    cell: Cell, jacobian: str, params: Params, carry: Carry, drive: Drive, flags: Flags, batch: int
) -> Layout:
    """Choose the layout for the carries of a cell.

    Args:
        cell: the cell.
        jacobian: "full" or "diagonal".
        params: its parameters.
        carry: the carry before the first step, [*B, ...].
        drive: the result of `project`, [T, *B, ...]; T at least 1.
        flags: lengths, masks and resets.
        batch: the number of batch axes.

    Returns:
        A layout of this kind, or an elementwise one if the steps are elementwise in the carry.
    """
    leaves, structure = jax.tree.flatten(carry)
    shapes = tuple(leaf.shape[batch:] for leaf in leaves)
    layout = Layout(jacobian, structure, shapes, tuple(leaf.dtype for leaf in leaves))
    first, restart = jax.tree.map(lambda a: a[0], (drive, flags.restart))

    def after(carry: Carry) -> Carry:
        return next_carry(cell, params, carry, first, restart)

    try:
        dependence(after, carry)
    except NotElementwiseError:
        return layout
    return dataclasses.replace(layout, kind=ELEMENTWISE) if len(set(shapes)) == 1 else layout


def steps_itself(cell: Cell) -> bool:
    """Whether a cell defines `advance`, so that a step is not `project`, `next_carry` and `read`.

    Such a cell, as a `FunctionCell`, may compute y from the carry before the step. Its drive is its
    input.
    """
    return type(cell).advance is not Cell.advance


def next_carry(
    cell: Cell, params: Params, carry: Carry, drive: Drive, restart: jax.Array | None
) -> Carry:
    """Return the carry after a step, in full precision."""
    with jax.default_matmul_precision("highest"):
        if steps_itself(cell):
            return cell.advance(params, carry, drive, restart)[0]
        return cell.next_carry(params, carry, drive, restart)
