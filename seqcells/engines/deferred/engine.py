"""The engine of split cells: weight gradients of many steps in one matrix product."""

from __future__ import annotations

import dataclasses

from seqcells import _check
from seqcells._cell import Cell, SplitCell
from seqcells._flags import Flags
from seqcells._types import Carry, Inputs, Outputs, Params, Shaped
from seqcells.engines import _platform
from seqcells.engines._engine import Engine
from seqcells.engines.deferred import schedule, shapes
from seqcells.engines.deferred.loops import Residuals, Scans
from seqcells.engines.deferred.plan import DeferredPlan
from seqcells.engines.deferred.products import FORMS


@dataclasses.dataclass(frozen=True)
class Deferred(Engine):
    """Run a `SplitCell` as `Scan` does; compute weight gradients of many steps in one product.

    The backward pass of a scan adds to the gradient of every weight in every step, and reads all
    residuals of the step. This engine stores the carries and, if they fit, the slopes of the gates.
    Its backward pass processes a chunk of steps at a time, as cuDNN does:

    1. Read the slopes of the chunk, or recompute its gates in one product.
    2. Compute the cotangent of the carry step by step, with fixed slopes.
    3. Compute the gradient of each weight in one product for the chunk.

    The backward pass is derived from a tangent of the same form, so forward mode works too.

    On a CPU, a batch of weights under `jax.vmap` is run one member after another, which is faster
    there than products with a batch of matrices. On a GPU or TPU inputs are projected ahead, gates
    are recomputed, and a loop iteration runs 8 steps, so that fewer kernels are launched. These
    defaults follow from the number of kernels in compiled programs; other values were not timed.

    Args:
        chunk: steps processed at a time, at least 1; need not divide T. None chooses by size.
        keep: the names, of "drive", "mixed" and "slopes", that the forward pass stores for every
            step; others are recomputed. With "slopes" the other two are not needed. None chooses by
            size.
        project_ahead: whether inputs are projected `chunk` steps at a time, before the first of
            them. None chooses by size.
        vmap_sequentially: whether a batch of weights is run one after another. None: on a CPU.
        unroll: steps per loop iteration, at least 1. None: 1 on a CPU, 8 elsewhere.
        product: how a step multiplies. "rows": input and carry separately, with a row for each
            sequence. "joined": both in one product, if the gates read only the sum. "columns": the
            transposed weights times the transposed carry, which is faster for large matrices. None
            chooses by size.

    Raises:
        ValueError: on a chunk or an unroll below 1, or an unknown name to keep.
        TypeError: on an argument of the wrong type.
    """

    chunk: int | None = None
    keep: tuple[str, ...] | None = None
    project_ahead: bool | None = None
    vmap_sequentially: bool | None = None
    unroll: int | None = None
    product: str | None = None

    def __post_init__(self) -> None:
        for name in ("chunk", "unroll"):
            if getattr(self, name) is not None:
                _check.size(name, getattr(self, name), least=1)
        if self.keep is not None and not isinstance(self.keep, tuple):
            raise TypeError(f"keep: expected a tuple of names, got {self.keep!r}")
        for name in self.keep or ():
            _check.choice("keep", name, Residuals._fields)
        if self.product is not None:
            _check.choice("product", self.product, FORMS)
        for name in ("project_ahead", "vmap_sequentially"):
            if getattr(self, name) is not None:
                _check.flag(name, getattr(self, name))

    def why_not(self, cell: Cell, xs: Inputs, flags: Flags) -> str | None:
        """Return why the cell cannot be split, or None."""
        reason = cell.why_not_split()
        if reason is not None or not isinstance(cell, SplitCell):
            return reason
        return shapes.why_not(cell, xs) or self._why_not_product(cell, xs)

    def _why_not_product(self, cell: SplitCell, xs: Shaped) -> str | None:
        if self.product is None:
            return None
        reason = FORMS[self.product].why_not(cell, xs)
        if reason is None and self.product == "joined":
            reason = schedule.why_not_joined(self.project_ahead, self.keep)
        return None if reason is None else f"product={self.product!r}: {reason}"

    def resolve(self, cell: Cell, xs: Inputs, flags: Flags) -> DeferredPlan:
        """Choose the options that are None, by the platform and the sizes of cell and xs."""
        split, platform = shapes.split(cell), _platform.platform(xs)
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        named = {name: value for name, value in named.items() if value is not None}
        chosen = schedule.choose(split, xs, platform)
        if self.product == "joined":
            kept = tuple(name for name in chosen.keep if name == "slopes")
            chosen = chosen._replace(project_ahead=False, keep=kept)
        chosen = chosen._replace(**named)
        ruled_out = schedule.why_not_joined(chosen.project_ahead, chosen.keep)
        if chosen.product == "joined" and ruled_out is not None:
            chosen = chosen._replace(product="rows")
        return DeferredPlan(
            engine=Deferred(**chosen._asdict()),
            cell=split,
            schedule=chosen,
            loops=Scans(chosen.unroll),
            pretransposed=platform == "cpu" and schedule.worth_pretransposing(split, xs),
        )

    def run(
        self, cell: Cell, params: Params, xs: Inputs, carry: Carry, flags: Flags
    ) -> tuple[Carry, Outputs]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        return self.resolve(cell, xs, flags).run(params, xs, carry, flags)
