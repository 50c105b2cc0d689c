"""A split cell with the schedule by which `Deferred` runs it."""

from __future__ import annotations

import dataclasses

import jax

from seqcells._cell import SplitCell
from seqcells._flags import Flags
from seqcells._trees import silence
from seqcells._types import Carry, Inputs, Outputs, Params
from seqcells.engines import _platform
from seqcells.engines._engine import Plan
from seqcells.engines.deferred.forward import Problem
from seqcells.engines.deferred.loops import Loops
from seqcells.engines.deferred.primitive import Operation
from seqcells.engines.deferred.schedule import Schedule
from seqcells.engines.deferred.tangents import DeferredForward
from seqcells.engines.scan import Scan


@dataclasses.dataclass(frozen=True)
class DeferredPlan(Plan):
    """A split cell with its schedule.

    Attributes:
        engine: the engine, with every option set.
        cell: the cell.
        schedule: how many steps are computed at once, and which residuals are stored.
        loops: how to run the steps of a window.
        pretransposed: whether matrices are transposed before the backward loop.
    """

    cell: SplitCell
    schedule: Schedule
    loops: Loops
    pretransposed: bool = False

    def run(self, params: Params, xs: Inputs, carry: Carry, flags: Flags) -> tuple[Carry, Outputs]:
        """Run the cell over time, as one operation.

        Args:
            params: the cell's parameters.
            xs: float[T, *B, D].
            carry: the carry before the first step.
            flags: lengths, masks, resets and direction.

        Returns:
            The last carry and ys [T, *B, ...].
        """
        if 0 in xs.shape[:-1]:  # no steps or no rows
            return Scan().run(self.cell, params, xs, carry, flags)
        fresh = None if flags.restart is None else flags.fresh
        problem = Problem(params, xs, carry, fresh, flags.valid, flags.restart)
        args, structure = jax.tree.flatten(problem)
        forward = DeferredForward(
            cell=self.cell,
            schedule=self.schedule,
            loops=self.loops,
            pretransposed=self.pretransposed,
            structure=structure,
            reverse=flags.reverse,
            keep=self.schedule.keep,
            join_batch=not _platform.may_be_sharded(),
        )
        operation = Operation(
            forward,
            nonlinear=len(args),
            weights=len(jax.tree.leaves(params)),
            vmap_sequentially=self.schedule.vmap_sequentially,
        )
        carries = jax.tree.unflatten(jax.tree.structure(carry), operation(*args))
        last = jax.tree.map(lambda a: a[0 if flags.reverse else -1], carries)
        drive = self.cell.project(params, silence(flags.valid, xs))  # unused by most: XLA drops it
        return last, silence(flags.valid, self.cell.read(params, carries, drive))
