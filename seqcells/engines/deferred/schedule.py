"""How `Deferred` runs: chosen from what is known when a program is traced.

The rules for a CPU were measured there; `python -m benchmarks peers` measures them again. Those for
other devices follow from the kernels that a compiled program launches.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import Carry, Drive, SplitCell, known_shapes
from seqcells.engines.deferred import slopes

WINDOW_BYTES = 2 * 2**20  # of carries, drives and products: what is made of them stays in cache
WINDOW_ROWS = 512  # of a product: with fewer, adding to a weight's gradient takes longer than it
KEPT_BYTES = 16 * 2**20  # above about 32 MiB in all, memory is mapped anew at every call
KEPT_ROWS = 8  # below, a step's product is slower than a share of one for many steps
KEPT_SIZE = 256  # of what is summed over: from here on a sum costs more than keeping it
CHEAP_SIZE = 48  # of what is summed over: up to here it costs less, even in cache
AHEAD_ENTRIES = 256  # of a step's carry: for fewer, two products a step take longer than their sums
AHEAD_BYTES = 9 * 2**20  # of weights: more fall out of cache where every step reads them all
DEVICE_BYTES = 64 * 2**20  # of a window elsewhere: its products are large, and memory stays bounded
UNROLL = 8  # steps of a turn elsewhere: what one turn launches is one graph, and fewer kernels
TURNED_ROWS = 2  # these go back 5 to 45 % faster, one row, no matrix product, 8 times slower


class Step(NamedTuple):
    """The shapes of what a step is made of."""

    carry: Carry
    drive: Drive
    mixed: Any


class Schedule(NamedTuple):
    """What is left open in a `Deferred`."""

    chunk: int
    keep: tuple[str, ...]
    ahead: bool


def step_shapes(cell: SplitCell, xs: Any) -> Step:
    """Return the shapes of one step for inputs [T, *B, D] or their shape."""
    return _step_shapes(cell, xs.shape[1:], xs.dtype)


def why_not(cell: SplitCell, xs: Any) -> str | None:
    """Say why the derivative of a step is no table of slopes, or return None."""
    if not hasattr(xs, "shape"):
        return "its inputs are no single array"
    return _why_not(cell, xs.shape[1:], xs.dtype)


def choose(cell: SplitCell, xs: Any) -> Schedule:
    """Choose the schedule for inputs [T, *B, D] or their shape."""
    length, rows, input_size = xs.shape[0], math.prod(xs.shape[1:-1]), xs.shape[-1]
    step = step_shapes(cell, xs)
    step_bytes = _bytes(step)
    chunk = max(WINDOW_BYTES // max(step_bytes, 1), WINDOW_ROWS // max(rows, 1), 1)
    in_cache = length * step_bytes <= KEPT_BYTES
    hidden_size = max(leaf.size for leaf in jax.tree.leaves(step.carry)) // max(rows, 1)
    weight_bytes = _bytes(known_shapes(cell, input_size))
    sums = {"drive": input_size, "mixed": hidden_size}
    least = {"drive": CHEAP_SIZE, "mixed": 0}

    def worth(name: str) -> bool:
        return sums[name] >= KEPT_SIZE or (in_cache and sums[name] >= least[name])

    keep = tuple(name for name in sums if rows >= KEPT_ROWS and worth(name))
    ahead = (rows * hidden_size <= AHEAD_ENTRIES and in_cache) or weight_bytes >= AHEAD_BYTES
    return Schedule(even(length, chunk), keep, ahead)


def choose_for_device(cell: SplitCell, xs: Any) -> Schedule:
    """Choose the schedule where every kernel has to be launched."""
    chunk = DEVICE_BYTES // max(_bytes(step_shapes(cell, xs)), 1)
    return Schedule(even(xs.shape[0], max(chunk, 1)), (), ahead=True)


def worth_turning(xs: Any) -> bool:
    """Say whether matrices are transposed before the way back, for inputs [T, *B, D]."""
    return math.prod(xs.shape[1:-1]) >= TURNED_ROWS


def even(length: int, chunk: int) -> int:
    """Return the divisor of `length` that is nearest to `chunk`, or `chunk` where none is near."""
    if chunk >= length:
        return max(length, 1)
    near = [d for d in range(-(-chunk // 2), 2 * chunk + 1) if length % d == 0]
    return min(near, key=lambda d: max(d / chunk, chunk / d), default=chunk)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@functools.lru_cache(maxsize=256)
def _step_shapes(cell: SplitCell, shape: tuple[int, ...], dtype: Any) -> Step:
    x = jax.ShapeDtypeStruct(shape, dtype)

    def step(params: Any, x: jax.Array) -> Step:
        resolved = cell.resolve(x)
        assert isinstance(resolved, SplitCell)
        carry = resolved.init_carry(x)
        return Step(carry, resolved.project(params, x), resolved.mix(params, carry))

    return jax.eval_shape(step, known_shapes(cell, shape[-1]), x)


@functools.lru_cache(maxsize=256)
def _why_not(cell: SplitCell, shape: tuple[int, ...], dtype: Any) -> str | None:
    step = _step_shapes(cell, shape, dtype)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(step)):
        return "its carry or its gates are not real numbers"
    try:
        slopes.dependence(cell.gate, *step)
    except slopes.NotElementwiseError as error:
        return f"its gate is not elementwise: it has {error}"
    return None
