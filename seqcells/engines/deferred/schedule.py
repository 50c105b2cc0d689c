"""The choice of `Deferred`'s options, by the shapes that are known when a program is traced.

The rules for CPUs were measured; `python -m benchmarks peers` measures them again. The rules for
other devices follow from the number of kernels that a compiled program launches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax

from seqcells import _shares
from seqcells._cell import SplitCell
from seqcells._model import known_shapes
from seqcells._types import PyTree, Shaped
from seqcells.engines import _machine
from seqcells.engines._machine import HUGE_BYTES, KEPT_BYTES, MIB
from seqcells.engines.deferred.products import FORMS
from seqcells.engines.deferred.shapes import slope_shapes, step_shapes

WINDOW_BYTES = MIB  # of slopes: up to here a window stays in cache
WINDOW_ROWS = (
    256  # of a product: with fewer, adding it to a gradient takes longer than computing it
)
LARGE_ROWS = 512  # the same, for weights too large for the caches
WHOLE_BYTES = 8 * MIB  # of all slopes: up to here one window takes no longer than several
SINGLE_ENTRIES = 4096  # of a step's carry: from here on a window of one step costs no more
MOST_SLOPES = 6  # arrays: storing more takes longer than computing them again
SINGLE_ROW_SIZE = 64  # of a carry in a batch of one: up to here, computing slopes again is cheaper
HUGE_SIZE = 64  # length of a sum: below, recomputing a product costs less than storing it
KEPT_ROWS = 8  # below, a step's product is slower than its share of one product for many steps
KEPT_SIZE = 256  # length of a sum: from here on, storing a product costs less than recomputing it
AHEAD_ENTRIES = 256  # of a step's carry: with fewer, two products per step take longer than sums
JOINED_BYTES = MIB  # of weights: with more, two products are faster than one joined product
JOINED_ROWS = 512  # in all steps: with fewer, joining the weights takes longer than it saves
DEVICE_BYTES = 64 * MIB  # of a window on a device: products are large, and memory is bounded
UNROLL = 8  # steps of a loop iteration on a device: they launch fewer kernels, as one graph
TRANSPOSED_ROWS = 2  # pretransposing is 5 to 45 % faster, but with one row 8 times slower


class Machine(NamedTuple):
    """Thresholds in bytes at which a CPU becomes faster with another schedule."""

    ahead: int  # of all weights: above, project inputs ahead, so that a step reads one matrix
    columns: int  # of a matrix: above, multiply by columns, which avoids copying it
    full_columns: int  # the same if the number of rows fills the registers
    large: int  # of all weights: above, adding to their gradient takes longer than reading a window


# Measured on an EPYC (Zen 4) with 1 MiB of L2 cache per core. SMALL_CACHES was measured with a
# prototype of the forward pass on a processor with AVX2 and 512 KiB of L2 cache.
LARGE_CACHES = Machine(ahead=8 * MIB, columns=17 * MIB // 2, full_columns=3 * MIB, large=3 * MIB)
SMALL_CACHES = Machine(ahead=MIB // 2, columns=MIB, full_columns=MIB, large=MIB)
# A core's share of the L3 cache is half as large if two cores read the same matrices.
SHARED_CACHES = LARGE_CACHES._replace(ahead=3 * MIB)
COLUMN_ROWS = 4  # fewer rows are faster than columns
FULL_ROWS = 8  # XLA multiplies 8 or 16 columns at once
SMALL_LEVEL_2 = MIB // 2


class Schedule(NamedTuple):
    """The options of a `Deferred`, all of them set."""

    chunk: int
    keep: tuple[str, ...]
    project_ahead: bool
    vmap_sequentially: bool
    unroll: int
    product: str


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
        product="rows",
    )


def machine() -> Machine:
    """Return the sizes for this processor, or for a core's share of it."""
    if (_machine.level_2() or math.inf) <= SMALL_LEVEL_2:
        return SMALL_CACHES
    return LARGE_CACHES if _shares.ROWS.value is None else SHARED_CACHES


def _for_cpu(cell: SplitCell, xs: Shaped) -> Schedule:
    length, rows, input_size = xs.shape[0], math.prod(xs.shape[1:-1]), xs.shape[-1]
    step, sizes = step_shapes(cell, xs), machine()
    carry_size = max(leaf.size for leaf in jax.tree.leaves(step.carry))
    slopes = jax.tree.leaves(slope_shapes(cell, xs))
    slope_bytes = _bytes(step.carry) + _bytes(slopes)
    fits = length * slope_bytes <= KEPT_BYTES
    stored = _machine.maps_cheaply() and length * slope_bytes <= HUGE_BYTES
    sums = {"drive": input_size, "mixed": carry_size // max(rows, 1)}
    large = tuple(name for name in sums if rows >= KEPT_ROWS and sums[name] >= KEPT_SIZE)
    single = rows == 1 and carry_size <= SINGLE_ROW_SIZE and len(slopes) > 1
    cheap = single or len(slopes) > MOST_SLOPES  # to compute again
    whole = fits or (stored and sums["mixed"] >= HUGE_SIZE)
    keep = ("slopes",) if whole and not cheap else large
    weight_bytes = _bytes(known_shapes(cell, input_size))
    if fits and carry_size >= SINGLE_ENTRIES and slope_bytes >= weight_bytes:
        chunk = 1
    elif length * slope_bytes <= WHOLE_BYTES:
        chunk = length
    else:
        least = LARGE_ROWS if weight_bytes >= sizes.large else WINDOW_ROWS
        chunk = max(WINDOW_BYTES // max(slope_bytes, 1), least // max(rows, 1), 1)
    ahead = weight_bytes >= sizes.ahead
    product = "rows"
    if weight_bytes <= JOINED_BYTES and why_not_joined(ahead, keep) is None and _joins(cell, xs):
        product = "joined"
    elif _falls_out(cell, xs, sizes):
        product = "columns"
    small = carry_size <= AHEAD_ENTRIES and fits and product != "joined"
    return Schedule(
        chunk=even(length, chunk),
        keep=keep,
        project_ahead=small or ahead,
        vmap_sequentially=True,
        unroll=1,
        product=product,
    )


def why_not_joined(project_ahead: bool | None, keep: tuple[str, ...] | None) -> str | None:
    """Return why these options exclude joined products, or None."""
    if project_ahead:
        return "inputs that are projected ahead cannot be joined with the carry"
    if {"drive", "mixed"} & set(keep or ()):
        return "joined products compute neither drive nor mixed, so neither can be kept"
    return None


def _joins(cell: SplitCell, xs: Shaped) -> bool:
    """Return whether joined products save more time than joining the weights takes, for xs."""
    rows = math.prod(xs.shape[1:-1])
    enough = rows > 1 and rows * xs.shape[0] >= JOINED_ROWS
    return enough and FORMS["joined"].why_not(cell, xs) is None


def _falls_out(cell: SplitCell, xs: Shaped, sizes: Machine) -> bool:
    """Return whether the recurrent matrix is too large for the caches, given the rows of xs."""
    if FORMS["columns"].why_not(cell, xs) is not None:
        return False
    step, rows = step_shapes(cell, xs), math.prod(xs.shape[1:-1])
    h, mixed = jax.tree.leaves(step.carry)[0], jax.tree.leaves(step.mixed)
    matrix = h.shape[-1] * sum(leaf.shape[-1] for leaf in mixed) * h.dtype.itemsize
    full = rows % FULL_ROWS == 0 and rows > FULL_ROWS
    return rows >= COLUMN_ROWS and matrix >= (sizes.full_columns if full else sizes.columns)


def worth_pretransposing(xs: Shaped) -> bool:
    """Return whether to transpose matrices before the backward loop, for inputs [T, *B, D]."""
    return math.prod(xs.shape[1:-1]) >= TRANSPOSED_ROWS


def even(length: int, chunk: int) -> int:
    """Return a chunk near the given one whose windows overlap in as few steps as possible."""
    if chunk >= length:
        return max(length, 1)
    near = range(-(-chunk // 2), 2 * chunk + 1) if chunk > 1 else (1,)
    return min(near, key=lambda d: (-(-length // d) * d, max(d / chunk, chunk / d)))


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
