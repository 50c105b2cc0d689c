"""What the engines of this room share: a `Deferred` whose loops are kernels."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from seqcells import _check
from seqcells._cell import Carry, Cell, Params, SplitCell
from seqcells._flags import Flags
from seqcells._linear import wide
from seqcells.cells._dense import DenseCell
from seqcells.engines import _platform
from seqcells.engines._engine import Engine
from seqcells.engines.deferred import derivative
from seqcells.engines.deferred import schedule as schedules
from seqcells.engines.kernels import _products
from seqcells.engines.kernels._loops import Kernels
from seqcells.engines.scan import Scan

# What `jax_default_matmul_precision` says where the quickest product of a device will do.
LEAST_EXACT = (None, "default", "fastest", "bfloat16", "BF16_BF16_F32")


@dataclasses.dataclass(frozen=True)
class KernelEngine(Engine):
    """The base of engines whose loops over time run on the device, in one kernel each."""

    PLATFORM: ClassVar[str]
    PRECISIONS: ClassVar[tuple[str, ...]]
    MEMORY: ClassVar[str]  # whose memory the matrices are in

    precision: str | None = None
    chunk: int | None = None
    interpret: bool = False

    def __post_init__(self) -> None:
        if self.precision is not None:
            _check.choice("precision", self.precision, self.PRECISIONS)
        if self.chunk is not None:
            _check.size("chunk", self.chunk, least=1)
        _check.flag("interpret", self.interpret)

    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say which limit stands in the way, or return None."""
        where = _platform.platform(xs)
        if not self.interpret and where != self.PLATFORM:
            return f"it is for a {self.PLATFORM.upper()}, and this runs on a {where.upper()}"
        reason = None if self.interpret else self.why_not_device()
        reason = reason or _products.why_not(cell)
        if reason is not None:
            return reason
        assert isinstance(cell, DenseCell)
        reason = cell.why_not_split() or schedules.why_not(cell, xs)
        if reason is not None:
            return reason
        if _platform.may_be_sharded():
            return "JAX may have cut arrays over devices, which it cannot see; use jax.shard_map"
        if not self.interpret and wide(computed_in(cell, xs)) != jnp.float32:
            return "it computes in float32 and narrower"
        return self.why_too_large(cell, self.settled(cell, xs))

    def why_slow(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say that no device has measured it."""
        return "no device has measured it; name it to use it"

    def why_not_device(self) -> str | None:
        """Say why the device cannot run it, or return None."""
        return None

    def why_too_large(self, cell: DenseCell, settled: KernelEngine) -> str | None:
        """Say why the cell's matrices do not fit, or return None."""
        assert settled.precision is not None
        width, needed, most = self.room(cell, settled.precision)
        if needed <= most:
            return None
        return (
            f"{len(cell.GATES)} matrices of {width}x{width} in {settled.precision} take "
            f"{needed >> 10} KiB of a {self.MEMORY}'s {most >> 10} KiB"
        )

    @abc.abstractmethod
    def room(self, cell: DenseCell, precision: str) -> tuple[int, int, int]:
        """Return the units that a kernel computes, the bytes of their matrices, and the most."""

    @abc.abstractmethod
    def kernels(self) -> Kernels:
        """Return the loops of this engine, which is settled."""

    @abc.abstractmethod
    def product(self, dtype: Any) -> str:
        """Choose how operands are multiplied where they are computed in `dtype`."""

    def settled(self, cell: Cell, xs: Any) -> KernelEngine:
        """Choose what is left open."""
        assert isinstance(cell, DenseCell)
        chunk = schedules.choose_for_device(cell, xs).chunk if self.chunk is None else self.chunk
        precision = self.precision or self.product(computed_in(cell, xs))
        return dataclasses.replace(self, precision=precision, chunk=chunk)

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        assert isinstance(cell, SplitCell)
        if len(xs) == 0 or math.prod(xs.shape[1:-1]) == 0:
            return Scan().run(cell, params, xs, carry, flags)
        engine = self.settled(cell, xs)
        assert engine.chunk is not None
        schedule = schedules.Schedule(engine.chunk, (), ahead=True)
        return derivative.run(
            *(cell, params, xs, carry, flags, schedule, engine.kernels()),
            turns=False,
            one_by_one=False,
        )


def computed_in(cell: Cell, xs: Any) -> Any:
    """Return the dtype in which a cell computes on inputs."""
    return getattr(cell, "dtype", None) or xs.dtype


def default_precision() -> str | None:
    """Return what JAX was told of products of float32."""
    return getattr(jax.config, "jax_default_matmul_precision", None)
