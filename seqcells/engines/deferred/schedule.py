"""The choice of `Deferred`'s options, from the shapes that are known when a program is traced.

The rules for a CPU were measured there; `python -m benchmarks peers` measures them again. The rules
for other devices follow from the number of kernels that a compiled program launches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from seqcells._cell import Cell, SplitCell
from seqcells._model import known_shapes
from seqcells._trees import cached_shapes
from seqcells._types import Carry, Drive, Mixed, Params, PyTree, Shape, Shaped
from seqcells.engines.deferred import slopes

WINDOW_BYTES = 2**20  # of slopes: what a window reads and writes stays in cache
WINDOW_ROWS = 256  # of a product: with fewer, adding to a weight's gradient takes longer than it
WHOLE_BYTES = 8 * 2**20  # of all slopes: up to here one window takes no longer than several
SINGLE_ENTRIES = 4096  # of a step's carry: from here on a window may be a step, at no extra cost
KEPT_BYTES = 24 * 2**20  # above about 32 MiB in all, memory is mapped anew at every call
KEPT_ROWS = 8  # below, a step's product is slower than its share of one product for many steps
KEPT_SIZE = 256  # length of a sum: from here on, recomputing it costs more than storing it
AHEAD_ENTRIES = 256  # of a step's carry: with fewer, two products a step take longer than sums
AHEAD_BYTES = 9 * 2**20  # of weights: more fall out of cache if every step reads them all
DEVICE_BYTES = 64 * 2**20  # of a window on a device: products are large, and memory is bounded
UNROLL = 8  # steps of a loop iteration on a device: they launch fewer kernels, as one graph
TRANSPOSED_ROWS = 2  # pretransposing is 5 to 45 % faster; one row is no matrix product: 8x slower


class StepShapes(NamedTuple):
    """The shapes of a step's carry, drive and recurrent product."""

    carry: Carry
    drive: Drive
    mixed: Mixed


class Schedule(NamedTuple):
    """The options of a `Deferred`, all of them chosen."""

    chunk: int
    keep: tuple[str, ...]
    project_ahead: bool
    vmap_sequentially: bool
    unroll: int


def split(cell: Cell) -> SplitCell:
    """Return the cell, or raise a TypeError if it is not a `SplitCell`."""
    if not isinstance(cell, SplitCell):
        raise TypeError(f"cell: expected a SplitCell, got {cell}; use engine=Scan()")
    return cell


def step_shapes(cell: SplitCell, xs: Shaped) -> StepShapes:
    """Return the shapes of one step for inputs [T, *B, D] or their shape."""
    return _step_shapes(cell, xs.shape[1:], xs.dtype)


def why_not(cell: SplitCell, xs: Shaped) -> str | None:
    """Return why the derivative of a step is not a table of slopes, or None."""
    if not hasattr(xs, "shape") or cell.x_ndim != 1:
        return "its inputs are not one array [T, *B, D]"
    if any(map(export.is_symbolic_dim, xs.shape)):
        return "it plans by the sizes of xs, and some are symbolic"
    return _why_not(cell, xs.shape[1:], xs.dtype)


def choose(cell: SplitCell, xs: Shaped, platform: str) -> Schedule:
    """Choose the schedule for inputs [T, *B, D] or their shape."""
    return _for_cpu(cell, xs) if platform == "cpu" else for_device(cell, xs)


def for_device(cell: SplitCell, xs: Shaped) -> Schedule:
    """Choose the schedule for a GPU or TPU, where each kernel must be launched."""
    chunk = DEVICE_BYTES // max(_bytes(step_shapes(cell, xs)), 1)
    return Schedule(
        chunk=even(xs.shape[0], max(chunk, 1)),
        keep=(),
        project_ahead=True,
        vmap_sequentially=False,
        unroll=UNROLL,
    )


def _for_cpu(cell: SplitCell, xs: Shaped) -> Schedule:
    length, rows, input_size = xs.shape[0], math.prod(xs.shape[1:-1]), xs.shape[-1]
    step = step_shapes(cell, xs)
    carry_size = max(leaf.size for leaf in jax.tree.leaves(step.carry))
    slope_bytes = _bytes(step.carry) + _bytes(_slope_shapes(cell, xs.shape[1:], xs.dtype))
    fits = length * slope_bytes <= KEPT_BYTES
    sums = {"drive": input_size, "mixed": carry_size // max(rows, 1)}
    large = tuple(name for name in sums if rows >= KEPT_ROWS and sums[name] >= KEPT_SIZE)
    small = carry_size <= AHEAD_ENTRIES and fits
    weight_bytes = _bytes(known_shapes(cell, input_size))
    if fits and carry_size >= SINGLE_ENTRIES and slope_bytes >= weight_bytes:
        chunk = 1
    elif length * slope_bytes <= WHOLE_BYTES:
        chunk = length
    else:
        chunk = max(WINDOW_BYTES // max(slope_bytes, 1), WINDOW_ROWS // max(rows, 1), 1)
    return Schedule(
        chunk=even(length, chunk),
        keep=("slopes",) if fits else large,
        project_ahead=small or weight_bytes >= AHEAD_BYTES,
        vmap_sequentially=True,
        unroll=1,
    )


def worth_pretransposing(xs: Shaped) -> bool:
    """Return whether to transpose matrices before the backward loop, for inputs [T, *B, D]."""
    return math.prod(xs.shape[1:-1]) >= TRANSPOSED_ROWS


def even(length: int, chunk: int) -> int:
    """Return a chunk near the given one whose windows overlap in the fewest steps, best in none."""
    if chunk >= length:
        return max(length, 1)
    near = range(-(-chunk // 2), 2 * chunk + 1) if chunk > 1 else (1,)
    return min(near, key=lambda d: (-(-length // d) * d, max(d / chunk, chunk / d)))


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@cached_shapes(maxsize=256)
def _step_shapes(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> StepShapes:
    x = jax.ShapeDtypeStruct(shape, dtype)

    def step(params: Params, x: jax.Array) -> StepShapes:
        resolved = cell.resolve(x)
        carry = resolved.init_carry(x, params)
        return StepShapes(carry, resolved.project(params, x), resolved.mix(params, carry))

    return jax.eval_shape(step, known_shapes(cell, shape[-1]), x)


@cached_shapes(maxsize=256)
def _slope_shapes(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> list[slopes.Row]:
    step = _step_shapes(cell, shape, dtype)
    return jax.eval_shape(lambda step: slopes.distinct(cell.gate, *step), step)


@cached_shapes(maxsize=256)
def _why_not(cell: SplitCell, shape: Shape, dtype: jnp.dtype) -> str | None:
    step = _step_shapes(cell, shape, dtype)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(step)):
        return "its carry or its gates are not real numbers"
    try:
        slopes.dependence(cell.gate, *step)
    except slopes.NotElementwiseError as error:
        return f"its gate is not elementwise: it has {error}"
    return None
