"""A batch that is split over the cores of a CPU.

XLA runs large matrix products on several cores, but the rest of a step on one. Under the mesh of
`distributed.cores`, each core therefore runs the whole loop on its own rows of the batch.
"""

from __future__ import annotations

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from seqcells import _check
from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Carry, Outputs, PyTree

AXIS = "cores"
ROWS = jax.make_user_context(None)  # within a core's share: the number of rows of the whole batch


class Call(Protocol):
    """A computation on a batch, without its arrays; static.

    The arrays are grouped by how they are split: `whole`, parameters and key, or None; `steps`,
    arrays [T, B, ...]; `rows`, arrays [B, ...].
    """

    @property
    def model(self) -> Model:
        """The cell or layer."""
        ...

    def checked(self, whole: PyTree, steps: PyTree, rows: PyTree) -> tuple[PyTree, Carry]:
        """Return `rows` as arrays, and the first carry; raise if the arguments do not fit."""
        ...

    def run(self, whole: PyTree, steps: PyTree, rows: PyTree) -> tuple[Carry, Outputs]:
        """Return the carry [B, ...] and the outputs [T, B, ...]."""
        ...


def run(
    call: Call, lead: tuple[int, ...], whole: PyTree, steps: PyTree, rows: PyTree
) -> tuple[Carry, Outputs]:
    """Return `call.run(whole, steps, rows)`, computed by all cores under the mesh of `cores`.

    Args:
        call: the computation.
        lead: the sizes of the inputs' axes [T, *B].
        whole: see `Call`.
        steps: see `Call`.
        rows: see `Call`.
    """
    if _splits(call.model, lead, whole[1]):
        return _split(call, lead[1], whole, steps, rows)
    return call.run(whole, steps, rows)


def _splits(model: Model, lead: tuple[int, ...], key: jax.Array | None) -> bool:
    mesh = jax.sharding.get_abstract_mesh()  # within a shard_map, its axes are Manual
    if mesh.axis_names != (AXIS,) or mesh.axis_types != (AxisType.Auto,) or len(lead) < 2:
        return False
    if _check.TRACED_TOO.value or not isinstance(lead[1], int):  # checkify, `jax.export`
        return False
    return lead[1] >= mesh.size > 1 and (key is None or _draws_by_rows(model))


def bernoulli(key: jax.Array, p: float, shape: tuple[int, ...], axis: int) -> jax.Array:
    """Draw bool[shape], True with probability p; within a share, that share of the batch's draw.

    Args:
        key: one random key.
        p: the probability.
        shape: the shape of the result.
        axis: its first batch axis.
    """
    if ROWS.value is None:
        return jax.random.bernoulli(key, p, shape)
    mine, count = shape[axis], jax.lax.axis_size(AXIS)
    drawn = jax.random.bernoulli(key, p, (*shape[:axis], ROWS.value, *shape[axis + 1 :]))
    first = jax.lax.axis_index(AXIS) * mine
    return jax.lax.dynamic_slice_in_dim(_padded(drawn, axis, count), first, mine, axis)


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _split(
    call: Call, batch: int, whole: PyTree, steps: PyTree, rows: PyTree
) -> tuple[Carry, Outputs]:
    count = jax.sharding.get_abstract_mesh().size
    rows, carry = call.checked(whole, steps, rows)
    if any(leaf.shape[:1] != (batch,) for leaf in jax.tree.leaves(carry)):
        return call.run(whole, steps, rows)  # a carry without batch axes cannot be split
    steps = jax.tree.map(lambda a: _padded(a, 1, count), steps)
    rows = jax.tree.map(lambda a: _padded(a, 0, count), rows)

    def share(whole: PyTree, steps: PyTree, rows: PyTree) -> tuple[Carry, Outputs]:
        with ROWS(batch):
            return call.run(whole, steps, rows)

    # Rows do not communicate, so the check of varying axes is off: it rejects some users' scans.
    # Without it, the gradient of `whole` is summed once, at the end.
    by_row, by_step = PartitionSpec(AXIS), PartitionSpec(None, AXIS)
    carry, ys = jax.shard_map(
        share,
        in_specs=(PartitionSpec(), by_step, by_row),
        out_specs=(by_row, by_step),
        check_vma=False,
    )(whole, steps, rows)
    return jax.tree.map(lambda a: a[:batch], carry), jax.tree.map(lambda a: a[:, :batch], ys)


def _padded(a: jax.Array, axis: int, count: int) -> jax.Array:
    """Repeat the last row until `count` divides the axis.

    A copied row is finite where the original is, so the zero cotangents of the dropped copies stay
    zero.
    """
    missing = -a.shape[axis] % count
    if not missing:
        return a
    return jnp.pad(a, [(0, missing * (i == axis)) for i in range(a.ndim)], mode="edge")


def _draws_by_rows(model: Model) -> bool:
    """Whether a model draws all its noise by `bernoulli`; users' classes may draw differently."""
    silent = isinstance(model, Cell) and type(model).noisy is Cell.noisy
    own = type(model).__module__.partition(".")[0] == __name__.partition(".")[0]
    return (own or silent) and all(map(_draws_by_rows, _parts(model)))


def _parts(model: Model) -> list[Model]:
    """Return the models in a model's dataclass fields."""
    listed = (value if isinstance(value, tuple) else (value,) for value in vars(model).values())
    return [one for values in listed for one in values if isinstance(one, Model)]
