"""The engine of split cells: weight gradients by one product for many steps."""

from __future__ import annotations

import dataclasses
from typing import Any

from seqcells import _check
from seqcells._cell import Carry, Cell, Params, SplitCell
from seqcells._flags import Flags
from seqcells.engines import _platform
from seqcells.engines._engine import Engine
from seqcells.engines.deferred import derivative, schedule
from seqcells.engines.deferred.loops import Scans
from seqcells.engines.scan import Scan


@dataclasses.dataclass(frozen=True)
class Deferred(Engine):
    """Run a `SplitCell` as `Scan` does, with a derivative that leaves the weights for later.

    The derivative of a scan adds to the gradient of every weight in every step, and stores whatever
    a step computed. This one stores the carries. Going back it takes some steps at a time: their
    gates again, by one product for all of them; then the adjoint of the carry, step by step, for
    which gates are numbers; then the gradient of each weight, by one product for all of them. It is
    the schedule of cuDNN, and comes from a tangent of the same form, so forward mode works too.

    On a CPU a batch of weights, under `jax.vmap`, is run one member after another, which is faster
    there than products with a batch of matrices. On a GPU or TPU inputs are projected ahead, gates
    are computed again, and a turn of the loop holds 8 steps: fewer kernels are launched so. That is
    chosen by counting kernels in compiled programs; no device has measured it yet.

    Args:
        chunk: steps taken at a time, at least 1; need not divide T. Chosen by size where None.
        keep: of "drive" and "mixed", what the forward pass stores of every step instead of having
            it computed again. Chosen by size where None.
        ahead: whether inputs are projected `chunk` steps at a time, before the first of them.
            Chosen by size where None.
        one_by_one: whether a batch of weights is run one after another. Where None: on a CPU.
        unroll: steps of one turn of the loop, at least 1. Where None: 1 on a CPU, elsewhere 8.

    Raises:
        ValueError: on a chunk or an unroll below 1, or something else to keep.
        TypeError: on an argument of the wrong type.
    """

    chunk: int | None = None
    keep: tuple[str, ...] | None = None
    ahead: bool | None = None
    one_by_one: bool | None = None
    unroll: int | None = None

    def __post_init__(self) -> None:
        for name in ("chunk", "unroll"):
            if getattr(self, name) is not None:
                _check.size(name, getattr(self, name), least=1)
        if self.keep is not None and not isinstance(self.keep, tuple):
            raise TypeError(f"keep: expected a tuple of names, got {self.keep!r}")
        for name in self.keep or ():
            _check.choice("keep", name, derivative.Kept._fields)
        for name in ("ahead", "one_by_one"):
            if getattr(self, name) is not None:
                _check.flag(name, getattr(self, name))

    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say why the cell cannot be split, or return None."""
        if not isinstance(cell, SplitCell):
            return "it is no SplitCell"
        return cell.why_not_split() or schedule.why_not(cell, xs)

    def settled(self, cell: Cell, xs: Any) -> Deferred:
        """Choose what is left open, by the platform and the sizes of cell and xs [T, *B, D]."""
        assert isinstance(cell, SplitCell)
        cpu = _platform.platform(xs) == "cpu"
        chosen = schedule.choose(cell, xs) if cpu else schedule.choose_for_device(cell, xs)
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found = chosen._asdict() | {"one_by_one": cpu, "unroll": 1 if cpu else schedule.UNROLL}
        return Deferred(**found | {n: value for n, value in said.items() if value is not None})

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        assert isinstance(cell, SplitCell)
        if len(xs) == 0:
            return Scan().run(cell, params, xs, carry, flags)
        engine = self.settled(cell, xs)  # which it is, unless run is called directly
        assert engine.chunk is not None
        assert engine.keep is not None
        return derivative.run(
            *(cell, params, xs, carry, flags),
            schedule.Schedule(engine.chunk, engine.keep, bool(engine.ahead)),
            Scans(engine.unroll or 1),
            turns=_platform.platform(xs) == "cpu" and schedule.worth_turning(xs),
            one_by_one=bool(engine.one_by_one),
        )
