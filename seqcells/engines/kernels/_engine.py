"""The base of kernel engines: `Deferred`, with its two loops as kernels."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Cell, SplitCell
from seqcells._flags import Flags
from seqcells._linear import wide
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells.engines import _platform
from seqcells.engines._engine import Engine
from seqcells.engines.deferred import products, schedule, shapes
from seqcells.engines.deferred.plan import DeferredPlan
from seqcells.engines.deferred.shapes import StepShapes
from seqcells.engines.kernels import _products
from seqcells.engines.kernels._loops import Kernels

# Values of `jax_default_matmul_precision` that allow a device's fastest product.
LEAST_EXACT = (None, "default", "fastest", "bfloat16", "BF16_BF16_F32")


@dataclasses.dataclass(frozen=True)
class KernelEngine(Engine):
    """The base of engines that run each loop over time as one kernel of the device."""

    PLATFORM: ClassVar[str]
    PRECISIONS: ClassVar[tuple[str, ...]]
    MEMORY: ClassVar[str]  # the unit of the device whose memory holds the matrices

    precision: str | None = None
    chunk: int | None = None
    interpret: bool = False

    def __post_init__(self) -> None:
        if self.precision is not None:
            _check.choice("precision", self.precision, self.PRECISIONS)
        if self.chunk is not None:
            _check.size("chunk", self.chunk, least=1)
        _check.flag("interpret", self.interpret)

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return the first limit that the cell or the inputs exceed, or None."""
        where = _platform.platform(xs)
        if not self.interpret and where != self.PLATFORM:
            return f"it is for a {self.PLATFORM.upper()}, and this runs on a {where.upper()}"
        reason = None if self.interpret else self.why_not_device()
        if reason is None and cell.x_ndim != 1:
            reason = f"its input in a step has {cell.x_ndim} axes of its own, not 1"
        reason = reason or cell.why_not_split() or products.why_not_declared(cell)
        if reason is not None or not isinstance(cell, SplitCell):
            return reason
        return (
            shapes.why_not(cell, xs)
            or self._why_not_arrays(cell, xs)
            or self._why_too_large(cell, xs)
        )

    def why_slow(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return that it was measured on a device at no more than one size."""
        return "it was measured at no more than one size; name it to use it"

    def why_not_device(self) -> str | None:
        """Return why the device cannot run it, or None."""
        return None

    def _why_not_arrays(self, cell: SplitCell, xs: Inputs) -> str | None:
        if _platform.may_be_sharded():
            return "JAX may have sharded arrays, which it cannot see; use jax.shard_map"
        if not self.interpret and wide(compute_dtype(cell, xs)) != jnp.float32:
            return "it computes in float32 and narrower"
        return None

    def _why_too_large(self, cell: SplitCell, xs: Inputs) -> str | None:
        """Return why the cell's matrices do not fit, or None."""
        step, precision = shapes.step_shapes(cell, xs), self._precision(cell, xs)
        width, needed, most = self.room(step, precision)
        if needed <= most:
            return None
        gates, _ = _products.sizes(step)
        return (
            f"{gates} matrices of {width}x{width} in {precision} take "
            f"{needed >> 10} KiB of a {self.MEMORY}'s {most >> 10} KiB"
        )

    @abc.abstractmethod
    def room(self, step: StepShapes, precision: str) -> tuple[int, int, int]:
        """Return the padded units, the bytes of their matrices, and the limit of bytes."""

    @abc.abstractmethod
    def loops(self, precision: str) -> Kernels:
        """Return the loops of this engine in a precision."""

    @abc.abstractmethod
    def choose_precision(self, dtype: jnp.dtype) -> str:
        """Choose the precision of products for a cell that computes in `dtype`."""

    def _precision(self, cell: Cell, xs: Inputs) -> str:
        return self.precision or self.choose_precision(compute_dtype(cell, xs))

    def resolve(self, cell: Cell, xs: Inputs, flags: Flags) -> DeferredPlan:
        """Choose the options that are None."""
        split = shapes.split(cell)
        chosen, precision = schedule.for_device(split, xs), self._precision(cell, xs)
        chosen = chosen._replace(chunk=self.chunk or chosen.chunk)
        return DeferredPlan(
            engine=dataclasses.replace(self, precision=precision, chunk=chosen.chunk),
            cell=split,
            schedule=chosen,
            loops=self.loops(precision),
        )

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        return self.resolve(cell, xs, flags).run(params, xs, carry, flags)


def compute_dtype(cell: Cell, xs: Inputs) -> jnp.dtype:
    """Return the dtype in which a cell computes on inputs."""
    return getattr(cell, "dtype", None) or xs.dtype


def default_precision() -> str | None:
    """Return the value of `jax_default_matmul_precision`."""
    return getattr(jax.config, "jax_default_matmul_precision", None)
