"""The operation behind `Deferred`: a cell over time, and its tangent, some steps at a time."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._cell import Carry, Params, SplitCell
from seqcells._flags import Flags, select, silence, zeros_like
from seqcells.engines import _platform
from seqcells.engines.deferred import schedule as schedules
from seqcells.engines.deferred import slopes
from seqcells.engines.deferred.loops import Fixed, Loops, Moved, Push, Steps, add, one_step, pushed
from seqcells.engines.deferred.primitive import Function, Given, Operation
from seqcells.engines.deferred.windows import Windows


class Problem(NamedTuple):
    """What an engine is given; or tangents of it, None where a field has none."""

    params: Params
    xs: Any  # [T, *B, ...]
    carry: Carry  # [*B, ...]
    fresh: Carry  # [*B, ...], None where there is no restart
    valid: jax.Array | None  # bool[T, *B]
    restart: jax.Array | None  # bool[T, *B]


class Kept(NamedTuple):
    """What the forward pass keeps of every step for the backward pass; None what it does not."""

    drive: Any
    mixed: Any


@dataclasses.dataclass(frozen=True)
class Forward(Function):
    """The carry after every step, and what is kept of every step if it is recorded.

    Attributes:
        cell: the cell.
        structure: that of a `Problem`, whose leaves are the arguments.
        reverse: whether time is read from the end.
        chunk: steps that the tangent takes at a time.
        keep: the fields of `Kept` that are kept.
        ahead: whether inputs are projected `chunk` steps at a time, before the first of them.
        joined: whether the tangent makes one axis of steps and batch. Products over one axis are
            quicker on a CPU than over two; but where JAX has sharded the batch, it would gather it.
        turns: whether matrices are transposed before the way back.
        loops: the way through the steps of a window.
        recorded: whether what is kept is put out.
        spared: whether it is not, and computed again after all.
    """

    cell: SplitCell
    structure: Any
    reverse: bool
    chunk: int
    keep: tuple[str, ...]
    ahead: bool
    joined: bool
    turns: bool
    loops: Loops
    recorded: bool = False
    spared: bool = False

    def __call__(self, *args: jax.Array) -> tuple[jax.Array, ...]:
        """Compute the carries, and the residuals if they are recorded."""
        p = jax.tree.unflatten(self.structure, args)
        keep = self.keep if self.recorded and not self.spared else ()

        def kept(drive: Any, mixed: Any) -> Kept:
            return Kept(drive if "drive" in keep else None, mixed if "mixed" in keep else None)

        def step(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
            x, valid, restart = inputs
            drive = self.cell.project(p.params, silence(valid, x))
            mixed, carry = one_step(self.cell, p.params, p.fresh, carry, drive, valid, restart)
            return carry, (carry, kept(drive, mixed))

        def window(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
            (xs, valid, restart), live = inputs
            valid, restart = _alive(live, xs, valid, restart)
            drive = self.cell.project(p.params, silence(valid, xs))
            steps = Steps(p.params, carry, p.fresh, drive, valid, restart)
            found = self.loops.carries(self.cell, steps, self.reverse, "mixed" in keep)
            last, (carries, mixed) = found
            return last, (carries, kept(drive, mixed))

        def scan(function: Any, inputs: Any, unroll: int = 1) -> Any:
            return jax.lax.scan(function, p.carry, inputs, reverse=self.reverse, unroll=unroll)[1]

        inputs = (p.xs, p.valid, p.restart)
        if not self.ahead:
            return tuple(jax.tree.leaves(scan(step, inputs, self.loops.unroll)))
        windows = Windows(len(p.xs), min(self.chunk, len(p.xs)), self.reverse)
        found = scan(window, (windows.cut(inputs), windows.live))
        return tuple(jax.tree.leaves(windows.join(found)))

    def recording(self) -> Function:
        """Return the function that puts out residuals, too."""
        return dataclasses.replace(self, recorded=bool(self.keep))

    def sparing(self) -> Function:
        """Return the function that puts out no residuals."""
        if self.recorded:
            return dataclasses.replace(self, spared=True)
        return dataclasses.replace(self, keep=())

    def along(self, given: Given, outputs: int) -> Function:
        """Return the tangent, some steps at a time."""
        if self.recorded:  # differentiated again, and what is kept has a tangent too
            return super().along(given, outputs)
        return _Tangent(self, given)

    def read(self, p: Problem, outputs: Any) -> tuple[Carry, Kept]:
        """Give the outputs of the recorded function their structure."""
        structure = jax.tree.structure((p.carry, self._kept(p.xs)))
        carries, kept = jax.tree.unflatten(structure, outputs)
        return carries, Kept(None, None) if self.spared else kept

    def _kept(self, xs: jax.Array) -> Kept:
        """Return the shapes of what is kept of one step."""
        step, keep = schedules.step_shapes(self.cell, xs), self.keep
        return Kept(
            step.drive if "drive" in keep else None, step.mixed if "mixed" in keep else None
        )


def run(
    cell: SplitCell,
    params: Params,
    xs: jax.Array,
    carry: Carry,
    flags: Flags,
    schedule: schedules.Schedule,
    loops: Loops,
    *,
    turns: bool,
    one_by_one: bool,
) -> tuple[Carry, Any]:
    """Run a cell over at least one step, as one operation.

    Args:
        cell: the cell.
        params: its parameters.
        xs: float[T, *B, D], T at least 1.
        carry: the carry before the first step.
        flags: lengths, masks, resets and direction.
        schedule: how much is computed at once and kept.
        loops: the way through the steps of a window.
        turns: whether matrices are transposed before the way back.
        one_by_one: whether a batch of weights is run one after another.

    Returns:
        The last carry and ys [T, *B, ...].
    """
    fresh = None if flags.restart is None else flags.fresh
    problem = Problem(params, xs, carry, fresh, flags.valid, flags.restart)
    args, structure = jax.tree.flatten(problem)
    forward = Forward(
        *(cell, structure, flags.reverse),
        *(schedule.chunk, schedule.keep, schedule.ahead),
        joined=not _platform.may_be_sharded(),
        turns=turns,
        loops=loops,
    )
    weights = len(jax.tree.leaves(params))
    found = Operation(forward, len(args), weights, one_by_one)(*args)
    carries = jax.tree.unflatten(jax.tree.structure(carry), found)
    last = jax.tree.map(lambda a: a[0 if flags.reverse else -1], carries)
    drive = cell.project(params, silence(flags.valid, xs))  # the compiler drops what `read` ignores
    return last, silence(flags.valid, cell.read(params, carries, drive))


class _Window(NamedTuple):
    """What is read of some steps."""

    xs: jax.Array  # [C, *B, D], zero at padding
    valid: jax.Array | None  # bool[C, *B]
    restart: jax.Array | None  # bool[C, *B]
    old: Carry  # [C, *B, ...], which each step took
    kept: Kept


@dataclasses.dataclass(frozen=True)
class _Product(Function):
    """The tangent of `mix` by the carry, of (params, each of them transposed, carry, tangent).

    On a CPU a product by a matrix is quicker than one by its transpose, so both are at hand: the
    transpose of this function multiplies by the matrices that were transposed before the loop.
    """

    cell: SplitCell
    structure: Any  # that of (params, params, carry, tangent)
    back: bool = False  # whether this is to be transposed

    def __call__(self, *args: jax.Array) -> tuple[jax.Array, ...]:
        params, turned, carry, d_carry = jax.tree.unflatten(self.structure, args)
        if self.back:  # what differs from step to step keeps the transposing from being hoisted
            turned, carry = jax.lax.optimization_barrier((turned, carry))
            params = jax.tree.map(jnp.transpose, turned)
        return tuple(jax.tree.leaves(pushed(self.cell, params, carry, d_carry)))

    def turning(self) -> Function:
        return dataclasses.replace(self, back=True)


@dataclasses.dataclass(frozen=True)
class _Tangent(Function):
    """The tangent of the carry after every step, linear in that of the problem."""

    forward: Forward
    given: Given  # which leaves of the problem have a tangent

    def sparing(self) -> Function:
        return dataclasses.replace(self, forward=dataclasses.replace(self.forward, spared=True))

    def __call__(self, *args: jax.Array) -> tuple[jax.Array, ...]:
        f, count, moving = self.forward, len(self.given), sum(self.given)
        p = jax.tree.unflatten(f.structure, args[:count])
        carries, kept = f.read(p, args[count : len(args) - moving])
        d = _spread(p, self.given, args[len(args) - moving :])
        windows = Windows(len(p.xs), min(f.chunk, len(p.xs)), f.reverse)

        def window(d_carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
            start, live, d_xs = inputs
            part = self._read(windows, start, live, p, carries, kept)
            pushes, held, felt = self._linear(p, d, part, d_xs)
            fixed = Fixed(p.params, held, felt, part.valid, part.restart)
            fresh = d.fresh if part.restart is not None else None
            moved = Moved(d_carry, fresh, pushes)
            return f.loops.tangents(f.cell, fixed, moved, part.old, push, f.reverse)

        push = self._push(p)
        start = zeros_like(p.carry) if d.carry is None else d.carry
        inputs = (windows.starts, windows.live, windows.cut(d.xs))
        again = jax.checkpoint(window, prevent_cse=False)  # of a window nothing is stored
        found = jax.lax.scan(again, start, inputs, reverse=f.reverse)[1]
        return tuple(jax.tree.leaves(windows.join(found)))

    def _read(
        self, windows: Windows, start: Any, live: Any, p: Problem, carries: Carry, kept: Kept
    ) -> _Window:
        """Read a window; what is dead in it is as padding."""
        read = (p.xs, p.valid, p.restart, carries, kept)
        xs, valid, restart, after, kept = windows.at(start, read)
        valid, restart = _alive(live, xs, valid, restart)
        old = windows.shifted(windows.before(start, p.carry, carries), after)
        if restart is not None:
            fresh = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), p.fresh, old)
            old = select(restart, fresh, old)
        return _Window(silence(valid, xs), valid, restart, old, kept)

    def _push(self, p: Problem) -> Push:
        """Return what pushes a tangent through the product of each step."""
        cell = self.forward.cell
        if not self.forward.turns:
            return functools.partial(pushed, cell, p.params)
        turned = jax.tree.map(jnp.transpose, p.params)
        mixed = jax.tree.structure(schedules.step_shapes(cell, p.xs).mixed)

        def push(carry: Carry, d_carry: Carry) -> Any:
            args, structure = jax.tree.flatten((p.params, turned, carry, d_carry))
            fixed = len(args) - len(jax.tree.leaves(d_carry))
            weights = 2 * len(jax.tree.leaves(turned))
            product = Operation(_Product(cell, structure), fixed, weights, one_by_one=False)
            return jax.tree.unflatten(mixed, product(*args))

        return push

    def _linear(self, p: Problem, d: Problem, part: _Window, d_xs: Any) -> tuple[Any, Any, Any]:
        """Linearise all steps of a window at once.

        Returns:
            For each leaf of the carry, [C, *B, ...]: what the tangents of weights and inputs add to
            its own (a list of one array, or none), and its slopes by the old carry and by `mixed`.
            What they are at padding is not read.
        """
        cell, lead = self.forward.cell, part.xs.shape[:-1]
        rows = (part.xs, d_xs, part.old, part.kept)
        if self.forward.joined:
            rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(lead) :]), rows)
        xs, d_xs, old, kept = rows
        drive, d_drive = _jvp(cell.project, (p.params, xs), (d.params, d_xs))
        mixed, d_mixed = _jvp(lambda params: cell.mix(params, old), (p.params,), (d.params,))
        drive = drive if kept.drive is None else kept.drive  # then no product is left of it above
        mixed = mixed if kept.mixed is None else kept.mixed
        one = len(jax.tree.leaves(old))
        two = one + len(jax.tree.leaves(drive))
        table = slopes.slopes(cell.gate, old, drive, mixed)
        pushes = []
        for row in table:
            terms = slopes.push(row[one:two], d_drive) + slopes.push(row[two:], d_mixed)
            pushes.append(add(terms))
        held, felt = [row[:one] for row in table], [row[two:] for row in table]
        found = (pushes, held, felt)
        if self.forward.joined:
            found = jax.tree.map(lambda a: a.reshape(*lead, *a.shape[1:]), found)
        return found


def _alive(live: Any, xs: jax.Array, valid: Any, restart: Any) -> tuple[Any, Any]:
    """Make padding of the steps of a window [C, *B, D] that are dead; `live` is bool[C] or None."""
    if live is None:
        return valid, restart
    live = jnp.broadcast_to(live.reshape(-1, *[1] * (xs.ndim - 2)), xs.shape[:-1])
    return live if valid is None else valid & live, None if restart is None else restart & live


def _spread(p: Problem, given: Given, tangents: tuple[jax.Array, ...]) -> Problem:
    """Put tangents in the places of a problem: zeros where a part of a field has none."""
    rest, marks, fields = iter(tangents), iter(given), []
    for field in p:
        leaves, structure = jax.tree.flatten(field)
        found = [next(rest) if next(marks) else None for _ in leaves]
        some = any(tangent is not None for tangent in found)
        pairs = zip(found, leaves, strict=True)
        filled = [_no_tangent(leaf) if tangent is None else tangent for tangent, leaf in pairs]
        fields.append(jax.tree.unflatten(structure, filled) if some else None)
    return Problem(*fields)


def _no_tangent(leaf: jax.Array) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def _jvp(function: Any, args: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Compute a function and its tangent; None is no tangent."""
    moving = [i for i, tangent in enumerate(tangents) if tangent is not None]
    if not moving:
        return function(*args), None

    def moved(*some: Any) -> Any:
        found = dict(zip(moving, some, strict=True))
        return function(*(found.get(i, arg) for i, arg in enumerate(args)))

    some, theirs = (tuple(tree[i] for i in moving) for tree in (args, tangents))
    return jax.jvp(moved, some, theirs)
