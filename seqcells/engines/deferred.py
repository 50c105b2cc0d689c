"""The engine of split cells: weight gradients by one product for many steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from seqcells import _check
from seqcells._cell import Carry, Cell, Params, SplitCell
from seqcells._flags import Flags, silence
from seqcells.engines import _schedule
from seqcells.engines._deferral import Forward, Kept, Problem
from seqcells.engines._engine import Engine, may_be_sharded, platform
from seqcells.engines._operation import Operation
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
    there than products with a batch of matrices.

    Args:
        chunk: steps taken at a time, at least 1; need not divide T. Chosen by size where None.
        keep: of "drive" and "mixed", what the forward pass stores of every step instead of having
            it computed again. Chosen by size where None.
        ahead: whether inputs are projected `chunk` steps at a time, before the first of them.
            Chosen by size where None.
        one_by_one: whether a batch of weights is run one after another. Where None: on a CPU.

    Raises:
        ValueError: on a chunk below 1, or something else to keep.
        TypeError: on an argument of the wrong type.
    """

    chunk: int | None = None
    keep: tuple[str, ...] | None = None
    ahead: bool | None = None
    one_by_one: bool | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None:
            _check.size("chunk", self.chunk, least=1)
        if self.keep is not None and not isinstance(self.keep, tuple):
            raise TypeError(f"keep: expected a tuple of names, got {self.keep!r}")
        for name in self.keep or ():
            _check.choice("keep", name, Kept._fields)
        for name in ("ahead", "one_by_one"):
            if getattr(self, name) is not None:
                _check.flag(name, getattr(self, name))

    def why_not(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say why the cell cannot be split, or return None."""
        if not isinstance(cell, SplitCell):
            return "it is no SplitCell"
        return cell.why_not_split() or _schedule.why_not(cell, xs)

    def why_slow(self, cell: Cell, xs: Any, flags: Flags) -> str | None:
        """Say that this is no CPU, or return None."""
        return None if platform(xs) == "cpu" else "it has been measured on a CPU alone"

    def settled(self, cell: Cell, xs: Any) -> Deferred:
        """Choose what is left open, by the sizes of the cell and of xs [T, *B, D]."""
        assert isinstance(cell, SplitCell)
        chosen = _schedule.choose(cell, xs)
        one_by_one = platform(xs) == "cpu" if self.one_by_one is None else self.one_by_one
        return Deferred(
            chosen.chunk if self.chunk is None else self.chunk,
            chosen.keep if self.keep is None else self.keep,
            chosen.ahead if self.ahead is None else self.ahead,
            one_by_one,
        )

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags
    ) -> tuple[Carry, Any]:
        """Run the cell over time. Returns the last carry and ys [T, *B, ...]."""
        assert isinstance(cell, SplitCell)
        if len(xs) == 0:
            return Scan().run(cell, params, xs, carry, flags)
        engine = self.settled(cell, xs)  # which it is, unless run is called directly
        fresh = None if flags.restart is None else flags.fresh
        args, structure = jax.tree.flatten(
            Problem(params, xs, carry, fresh, flags.valid, flags.restart)
        )
        assert engine.chunk is not None
        assert engine.keep is not None
        forward = Forward(
            *(cell, structure, flags.reverse, engine.chunk, engine.keep),
            ahead=bool(engine.ahead),
            joined=not may_be_sharded(),
        )
        weights = len(jax.tree.leaves(params))
        found = Operation(forward, len(args), weights, bool(engine.one_by_one))(*args)
        carries = jax.tree.unflatten(jax.tree.structure(carry), found)
        last = jax.tree.map(lambda a: a[0 if flags.reverse else -1], carries)
        return last, silence(flags.valid, cell.output(params, carries))
