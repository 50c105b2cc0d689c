"""The operation behind `Deferred`: the carry after every step.

A split cell computes at step t, from its input x_t and the old carry h_{t-1}::

    d_t = project(params, x_t)                   drive
    m_t = mix(params, h_{t-1})                   mixed: the one product with the recurrent weights
    h_t = gate(h_{t-1}, d_t, m_t)                elementwise

The operation computes the h_t. `read` follows it and is differentiated by JAX as usual. A restart
replaces h_{t-1} by a fresh carry; at padding h_t is h_{t-1}. The derivative is in `tangents`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._cell import SplitCell
from seqcells._model import leading
from seqcells._trees import closed_over, silence
from seqcells._types import Carry, Mixed, Params, PyTree, Shape, TreeDef
from seqcells.engines.deferred.loops import Loops, Residuals, Step, Steps, one_step
from seqcells.engines.deferred.primitive import Arrays, Function
from seqcells.engines.deferred.products import FORMS, Rows
from seqcells.engines.deferred.schedule import Schedule
from seqcells.engines.deferred.shapes import StepShapes, step_shapes
from seqcells.engines.deferred.windows import Windows


class Problem(NamedTuple):
    """The inputs of an engine, or their tangents, with None for a field without a tangent."""

    params: Params
    xs: jax.Array  # [T, *B, ...]
    carry: Carry  # [*B, ...]
    fresh: Carry  # [*B, ...], None if there is no restart
    valid: jax.Array | None  # bool[T, *B]
    restart: jax.Array | None  # bool[T, *B]


class Saved(NamedTuple):
    """The values of the forward pass that the tangent reads."""

    problem: Problem
    carries: Carry  # [T, *B, ...]
    residuals: Residuals


@dataclasses.dataclass(frozen=True)
class Forward(Function):
    """Compute the carry after every step, followed by the residuals if `has_residuals`.

    JAX's derivative of it sums weight gradients step by step; the derivative of `DeferredForward`
    does not.

    Attributes:
        cell: the cell.
        schedule: how many steps are computed at once.
        loops: how to run the steps of a window.
        pretransposed: whether matrices are transposed before the backward loop.
        structure: the tree structure of a `Problem`, whose leaves are the arguments.
        reverse: whether time is read from the end.
        keep: the fields of `Residuals` that are stored.
        join_batch: whether the tangent joins the axes of time and batch. On a CPU, products over
            one axis are faster than over two; but JAX would gather a batch that it has sharded.
        has_residuals: whether residuals follow the carries.
        drops_residuals: whether the residuals are left out, and recomputed in the backward pass.
    """

    cell: SplitCell
    schedule: Schedule
    loops: Loops
    pretransposed: bool
    structure: TreeDef
    reverse: bool
    keep: tuple[str, ...]
    join_batch: bool
    has_residuals: bool = False
    drops_residuals: bool = False

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the carries, and the residuals if it has them."""
        p: Problem = jax.tree.unflatten(self.structure, args)
        prepared = self.form.prepare(self.cell, p.params, p.xs, p.carry)
        inputs, held = (p.xs, p.valid, p.restart), closed_over((p.params, p.fresh, prepared))
        if not self.schedule.project_ahead:
            body, unroll = functools.partial(self._step, *held), self.loops.unroll
            outputs = jax.lax.scan(body, p.carry, inputs, reverse=self.reverse, unroll=unroll)[1]
            return tuple(jax.tree.leaves(outputs))
        windows, body = self.windows(p), functools.partial(self._window, *held)
        parts = (windows.cut(inputs), windows.live)
        outputs = jax.lax.scan(body, p.carry, parts, reverse=self.reverse)[1]
        return tuple(jax.tree.leaves(windows.join(outputs)))

    def with_residuals(self) -> Function:
        """Return the function that stores what the schedule keeps."""
        return dataclasses.replace(self, has_residuals=bool(self.keep))

    def without_residuals(self) -> Function:
        """Return the function that stores only the carries."""
        if self.has_residuals:
            return dataclasses.replace(self, drops_residuals=True)
        return dataclasses.replace(self, keep=())

    def windows(self, p: Problem) -> Windows:
        """Return the windows of a problem."""
        return Windows(len(p.xs), min(self.schedule.chunk, len(p.xs)), reverse=self.reverse)

    def saved(self, p: Problem, outputs: Arrays) -> Saved:
        """Give the outputs of `with_residuals` their structure."""

        def run(step: StepShapes) -> tuple[Carry, Residuals]:
            one = Step(step.carry, None, None, None)
            return one_step(self.cell, one, lambda _: (step.drive, step.mixed), self.keep)

        shapes = jax.eval_shape(run, step_shapes(self.cell, p.xs))
        carries, residuals = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
        return Saved(p, carries, Residuals() if self.drops_residuals else residuals)

    def _step(
        self, held: PyTree, back: Callable, carry: Carry, inputs: PyTree
    ) -> tuple[Carry, PyTree]:
        """Run one step; `back(held)` returns the parameters and the fresh carry."""
        x, valid, restart = inputs
        params, fresh, prepared = back(held)
        products = functools.partial(self.form.both, self.cell, params, prepared, silence(valid, x))
        step = Step(carry, fresh, valid, restart)
        carry, residuals = one_step(self.cell, step, products, self._kept)
        return carry, (carry, residuals)

    def _window(
        self, held: PyTree, back: Callable, carry: Carry, inputs: PyTree
    ) -> tuple[Carry, PyTree]:
        """Project the inputs of a window, then run its steps."""
        (xs, valid, restart), live = inputs
        params, fresh, prepared = back(held)
        valid, restart = mask_dead(live, leading(self.cell, xs), valid, restart)
        drive = self.cell.project(params, silence(valid, xs))

        def mix(params: Params, carry: Carry) -> Mixed:
            return self.form.mix(self.cell, params, prepared, carry)

        steps = Steps(params, mix, carry, fresh, drive, valid, restart)
        keep = tuple(name for name in self._kept if name != "drive")  # computed above
        last, (carries, residuals) = self.loops.carries(
            self.cell, steps, reverse=self.reverse, keep=keep
        )
        kept = residuals._replace(drive=drive) if "drive" in self._kept else residuals
        return last, (carries, kept)

    @property
    def form(self) -> Rows:
        """The form of the products of a step."""
        return FORMS[self.schedule.product]

    @property
    def _kept(self) -> tuple[str, ...]:
        return self.keep if self.has_residuals and not self.drops_residuals else ()


def mask_dead(
    live: jax.Array | None, steps: Shape, valid: jax.Array | None, restart: jax.Array | None
) -> tuple[jax.Array | None, jax.Array | None]:
    """Mark the dead steps of a window [C, *B] as padding; `live` is bool[C] or None."""
    if live is None:
        return valid, restart
    live = jnp.broadcast_to(live.reshape(-1, *[1] * (len(steps) - 1)), steps)
    return live if valid is None else valid & live, None if restart is None else restart & live
