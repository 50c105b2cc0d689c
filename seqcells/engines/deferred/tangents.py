"""The derivative of the operation behind `Deferred`.

The recurrence and its names are in `forward`.

Tangent. Write ' for a tangent, and H_t, D_t, M_t for the slopes of `gate` at step t by its three
arguments, which are elementwise factors because `gate` is elementwise. Derivatives of `project` and
`mix` with a subscript t are taken at x_t and at h_{t-1}. By the chain rule (`jax.jvp`)::

    d'_t = (dproject/dparams)_t params' + (dproject/dx)_t x'_t
    m'_t = (dmix/dparams)_t params' + (dmix/dh)_t h'_{t-1}
    h'_t = H_t h'_{t-1} + D_t d'_t + M_t m'_t

Now separate the terms that need the tangent of a carry from the others::

    a_t  = D_t d'_t + M_t (dmix/dparams)_t params'                   for all steps of a window
    h'_t = H_t h'_{t-1} + M_t (dmix/dh)_t h'_{t-1} + a_t             step by step

Transpose. Write _bar for a cotangent. Let g_t be the part of h_bar_t that comes directly from the
outputs that read h_t. Transposing the two lines gives::

    h_bar_t     = g_t + H_{t+1} h_bar_{t+1} + (dmix/dh)_{t+1}^T (M_{t+1} h_bar_{t+1})
    x_bar_t     = (dproject/dx)_t^T (D_t h_bar_t)
    params_bar  = sum over t of (dproject/dparams)_t^T (D_t h_bar_t)
                              + (dmix/dparams)_t^T (M_t h_bar_t)

The first line runs step by step, from the last step to h_bar_0, the cotangent of the initial carry.
The other two are computed for all steps of a window at once. The deferred product is that of
params_bar: it needs h_bar_t, but h_bar_t does not need it. For mix = h W, its last term is the sum
over t of h_{t-1}^T (M_t h_bar_t): one matrix product for all rows of all steps of a window. The
transpose of the scan over windows sums the windows. The derivative of a plain scan computes this
product step by step.

If carry, drive or mixed have several leaves (an LSTM's h and c), H_t, D_t and M_t are tables with a
row for each leaf of the carry, and a product with them is a sum over leaves. If one leaf of h_t is
computed from another one (an LSTM's h from c), its rows have only the direct slopes, and N_t has
its slope by the other leaf::

    h'_t = N_t h'_t + H_t h'_{t-1} + M_t (dmix/dh)_t h'_{t-1} + a_t      leaf after leaf

JAX derives the transpose from the tangent, by `jax.linear_transpose`. `products` has equivalents of
`mix_jvp` whose transpose multiplies by matrices that were transposed before the loop. The symbols
have these names in this file and in `loops`:

================================  ================================================================
h_t                               `forward.Forward`, by `one_step`
d'_t, (dmix/dparams)_t params'    `WindowJvp._linearize`: `d_drive`, `d_mixed`
H_t, D_t, M_t, N_t                the same: `table`; `by_carry` is H_t, `by_mixed` is M_t, and
                                  `by_new` is N_t
a_t                               the same: `drive_tangents`
(dmix/dh)_t h'_{t-1}              `mix_jvp`
h'_t                              `Loops.tangents`
h_bar_t, x_bar_t, params_bar      the transpose of `ForwardJvp`
================================  ================================================================

A window is one operation, `WindowJvp`. Its transpose recomputes what it needs and stores nothing,
so the backward pass needs memory for the carries, for the stored residuals, and for one window.

Flags. A restart replaces h_{t-1} by a fresh carry and h'_{t-1} by the tangent of the fresh carry,
so there h_bar flows to the fresh carry. At padding, h_t is h_{t-1}, h'_t is h'_{t-1}, and h_bar is
unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._model import leading
from seqcells._trees import closed_over, select, silence, zeros_like
from seqcells._types import Carry, PyTree, TreeDef
from seqcells.engines.deferred import slopes
from seqcells.engines.deferred.forward import Forward, Problem, Saved, mask_dead
from seqcells.engines.deferred.loops import (
    Linearization,
    Residuals,
    Tangents,
    add,
)
from seqcells.engines.deferred.primitive import Arrays, Function, Marks, Operation
from seqcells.engines.deferred.slopes import Row
from seqcells.engines.deferred.windows import Windows


class Window(NamedTuple):
    """The values of one window that the tangent reads."""

    xs: jax.Array  # [C, *B, ...], zero at padding
    valid: jax.Array | None  # bool[C, *B]
    restart: jax.Array | None  # bool[C, *B]
    old: Carry  # [C, *B, ...], before each step
    residuals: Residuals


@dataclasses.dataclass(frozen=True)
class DeferredForward(Forward):
    """The carry after every step, with a tangent that is computed a window at a time."""

    def jvp(self, perturbed: Marks, outputs: int) -> Function:
        """Return the tangent, a window at a time."""
        if self.has_residuals:  # a second derivative: residuals have tangents too
            return super().jvp(perturbed, outputs)
        return ForwardJvp(self, perturbed)


@dataclasses.dataclass(frozen=True)
class ForwardJvp(Function):
    """The tangent of the carry after every step, linear in the tangent of the problem."""

    forward: Forward
    perturbed: Marks  # the leaves of the problem that have a tangent

    def without_residuals(self) -> Function:
        """Return the function that computes the residuals again."""
        return dataclasses.replace(
            self, forward=dataclasses.replace(self.forward, drops_residuals=True)
        )

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the tangents of the carries."""
        f, count, linear = self.forward, len(self.perturbed), sum(self.perturbed)
        p: Problem = jax.tree.unflatten(f.structure, args[:count])
        saved = f.saved(p, args[count : len(args) - linear])
        d = _unflatten_tangents(p, self.perturbed, args[len(args) - linear :])
        transposed = jax.tree.map(jnp.transpose, p.params) if f.pretransposed else None
        windows, carry = f.windows(p), jax.tree.structure((p.carry, p.carry))
        held, back = closed_over((d.params, d.fresh))
        perturbed = _with_carry(p, self.perturbed)

        def window(d_carry: Carry, inputs: PyTree) -> tuple[Carry, Carry]:
            start, live, d_xs = inputs
            d_params, d_fresh = back(held)
            nonlinear, structure = jax.tree.flatten((saved, transposed, start, live))
            tangents = Problem(d_params, d_xs, d_carry, d_fresh, None, None)
            function = WindowJvp(f, perturbed, structure)
            operation = Operation(function, len(nonlinear), weights=0)
            outputs = operation(*nonlinear, *_flatten_tangents(p, perturbed, tangents))
            return jax.tree.unflatten(carry, outputs)

        start = zeros_like(p.carry) if d.carry is None else d.carry
        inputs = (windows.starts, windows.live, windows.cut(d.xs))
        d_carries = jax.lax.scan(window, start, inputs, reverse=f.reverse)[1]
        return tuple(jax.tree.leaves(windows.join(d_carries)))


@dataclasses.dataclass(frozen=True)
class WindowJvp(Function):
    """The tangents of the last carry of a window and of all its carries.

    As one operation it acts like `jax.checkpoint`: a loop over windows stores its arguments for the
    backward pass, and no intermediate values. `jax.checkpoint` itself cannot always be transposed.
    """

    forward: Forward
    perturbed: Marks  # the leaves of the problem that have a tangent; all of its carry
    structure: TreeDef  # of (Saved, transposed parameters or None, start, live)

    def __call__(self, *args: jax.Array) -> Arrays:
        """Compute the tangents."""
        f, linear = self.forward, sum(self.perturbed)
        saved, transposed, start, live = jax.tree.unflatten(self.structure, args[:-linear])
        p: Problem = saved.problem
        d = _unflatten_tangents(p, self.perturbed, args[-linear:])
        part = self._read(f.windows(p), start, live, saved)
        drive_tangents, slopes_by = self._linearize(p, d, part)
        mix_jvp = f.form.mix_jvp(f.cell, p.params, transposed)
        linearization = Linearization(
            p.params, part.old, mix_jvp, *slopes_by, part.valid, part.restart
        )
        fresh = d.fresh if part.restart is not None else None
        tangents, cell = Tangents(d.carry, fresh, drive_tangents), f.cell
        made = f.loops.tangents(cell, linearization, tangents, reverse=f.reverse)
        return tuple(jax.tree.leaves(made))

    def _read(
        self, windows: Windows, start: jax.Array, live: jax.Array | None, saved: Saved
    ) -> Window:
        """Read a window; its dead steps become padding."""
        p = saved.problem
        stored = (p.xs, p.valid, p.restart, saved.carries, saved.residuals)
        xs, valid, restart, after, residuals = windows.at(start, stored)
        valid, restart = mask_dead(live, leading(self.forward.cell, xs), valid, restart)
        old = windows.shifted(windows.before(start, p.carry, saved.carries), after)
        if restart is not None:
            fresh = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), p.fresh, old)
            old = select(restart, fresh, old)
        return Window(silence(valid, xs), valid, restart, old, residuals)

    def _linearize(
        self, p: Problem, d: Problem, part: Window
    ) -> tuple[list[list[jax.Array]], tuple[list[Row], list[Row], list[Row]]]:
        """Linearize all steps of a window at once.

        Returns:
            a_t, and H_t, M_t and N_t, for each leaf of the carry, [C, *B, ...]; a_t is a list of
            one array, or of none if nothing has a tangent. Their values at padding are not used.
        """
        cell, lead = self.forward.cell, leading(self.forward.cell, part.xs)
        rows = (part.xs, d.xs, part.old, part.residuals)
        if self.forward.join_batch:
            rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(lead) :]), rows)
        xs, d_xs, old, residuals = rows
        drive, d_drive = _jvp(cell.project, (p.params, xs), (d.params, d_xs))
        mixed, d_mixed = _jvp(lambda params: cell.mix(params, old), (p.params,), (d.params,))
        # A stored residual replaces its recomputed value, which XLA then removes as dead code.
        drive = drive if residuals.drive is None else residuals.drive
        mixed = mixed if residuals.mixed is None else residuals.mixed
        one = len(jax.tree.leaves(old))
        two = one + len(jax.tree.leaves(drive))
        three = two + len(jax.tree.leaves(mixed))
        if residuals.slopes is None:
            table = slopes.slopes(cell.gate, old, drive, mixed)
        else:
            table = slopes.complete(cell.gate, (old, drive, mixed), residuals.slopes)
        drive_tangents = []
        for row in table:
            terms = slopes.terms(row[one:two], d_drive) + slopes.terms(row[two:three], d_mixed)
            drive_tangents.append(add(terms))
        parts = (slice(one), slice(two, three), slice(three, None))
        by_carry, by_mixed, by_new = ([row[part] for row in table] for part in parts)
        result = (drive_tangents, (by_carry, by_mixed, by_new))
        if self.forward.join_batch:
            result = jax.tree.map(lambda a: a.reshape(*lead, *a.shape[1:]), result)
        return result


def _unflatten_tangents(p: Problem, perturbed: Marks, tangents: Arrays) -> Problem:
    """Give tangents the structure of a problem, with zeros if only part of a field has one."""
    rest, marks, fields = iter(tangents), iter(perturbed), []
    for field in p:
        leaves, structure = jax.tree.flatten(field)
        some = [next(rest) if next(marks) else None for _ in leaves]
        pairs = zip(some, leaves, strict=True)
        filled = [_zero_tangent(leaf) if tangent is None else tangent for tangent, leaf in pairs]
        has_tangent = any(tangent is not None for tangent in some)
        fields.append(jax.tree.unflatten(structure, filled) if has_tangent else None)
    return Problem(*fields)


def _flatten_tangents(p: Problem, perturbed: Marks, d: Problem) -> list[jax.Array]:
    """Undo `_unflatten_tangents`."""
    leaves = []
    for field, tangents in zip(p, d, strict=True):
        count = len(jax.tree.leaves(field))
        leaves += [None] * count if tangents is None else jax.tree.leaves(tangents)
    return [leaf for leaf, mark in zip(leaves, perturbed, strict=True) if mark]


def _with_carry(p: Problem, perturbed: Marks) -> Marks:
    """Mark all leaves of the carry too."""
    first = len(jax.tree.leaves((p.params, p.xs)))
    carry = range(first, first + len(jax.tree.leaves(p.carry)))
    return tuple(mark or i in carry for i, mark in enumerate(perturbed))


def _zero_tangent(leaf: jax.Array) -> jax.Array | np.ndarray:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def _jvp(
    function: Callable[..., PyTree], args: tuple[PyTree, ...], tangents: tuple[PyTree, ...]
) -> tuple[PyTree, PyTree]:
    """Compute a function and its tangent; None stands for no tangent."""
    perturbed = [i for i, tangent in enumerate(tangents) if tangent is not None]
    if not perturbed:
        return function(*args), None

    def of_perturbed(*some: PyTree) -> PyTree:
        by_position = dict(zip(perturbed, some, strict=True))
        return function(*(by_position.get(i, arg) for i, arg in enumerate(args)))

    some, theirs = (tuple(tree[i] for i in perturbed) for tree in (args, tangents))
    return jax.jvp(of_perturbed, some, theirs)
