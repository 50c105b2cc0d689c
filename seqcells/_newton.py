"""`newton`: the carries of all steps as the solution of one system of equations, with a report."""

from __future__ import annotations

import dataclasses
import functools

import jax
from jax.typing import ArrayLike

from seqcells import _check, _flags, _shares
from seqcells._calls import explained
from seqcells._cell import Cell
from seqcells._flags import Flags
from seqcells._inputs import time_back, time_first, to_front
from seqcells._layer import Start
from seqcells._model import as_arrays, leading, like
from seqcells._trees import closed_over
from seqcells._types import Carry, Inputs, Outputs, Params, PyTree
from seqcells._unroll import Call, begin
from seqcells.engines import Newton, NewtonReport


@explained
def newton(
    cell: Cell,
    params: Params,
    xs: Inputs,
    carry: Carry = None,
    *,
    guess: Carry = None,
    jacobian: str = "full",
    tol: float | None = None,
    max_iters: int | None = None,
    chunk: int | None = None,
    damping: float = 0.0,
    scan_dtype: str | None = None,
    on_fail: str = "sequential",
    scan: str | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_carry: Carry = None,
    reverse: bool = False,
    time_axis: int = 0,
    key: jax.Array | None = None,
    trajectory: bool = False,
) -> tuple[Carry, Outputs, NewtonReport]:
    """Run a cell over sequences by Newton's method for all steps at once, and report.

    It returns what `unroll` returns, to rounding, and how well the equations were solved. Values do
    not depend on the guess or the settings wherever the report says `converged`. Derivatives are
    those of the solution, whatever the settings; the report has none.

    Args:
        cell: a cell; a layer takes `engine=Newton()` in `unroll`.
        params: its parameters.
        xs: float[T, *B, D]; time first.
        carry: the memory before the first step; `reset_carry` if None.
        guess: approximate carries after every step, [T, *B, ...], as `trajectory` returns them: for
            instance those of the same sequences before the last update of the parameters. None
            takes one step from the first carry, for each input alone; so do numbers of a guess that
            are not finite. It has no derivative.
        jacobian: see `Newton`, also for the other settings.
        tol: the largest residual of a solution.
        max_iters: the largest number of iterations.
        chunk: steps that are solved for at once.
        damping: from 0 to 1.
        scan_dtype: the dtype of corrections.
        on_fail: "sequential", "nan" or "flag".
        scan: how affine recurrences are run.
        lengths: int[*B]; as in `unroll`, also all that follow.
        mask: bool[T, *B].
        resets: bool[T, *B].
        reset_carry: the carry that each sequence starts from.
        reverse: whether each sequence is read from its end.
        time_axis: the axis of time in xs, guess, mask, resets and ys.
        key: one random key for noise.
        trajectory: whether to return the carries after every step, the `guess` of a next call.

    Returns:
        The carry after the last step read, or those after every step, [T, *B, ...], if `trajectory`
        is True; ys [T, *B, H]; and a `NewtonReport`.

    Raises:
        TypeError: as `unroll`; if `cell` is no cell; if its carry has integers.
        ValueError: as `unroll`; if a guess does not have the shapes of the carries, or a setting is
            out of range.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.GRU(8)
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> xs = jax.random.normal(jax.random.key(1), (200, 2))
    >>> carry, ys, report = sc.newton(cell, params, xs)
    >>> bool(report.converged), int(report.iterations) <= 5, float(report.error_estimate) < 1e-5
    (True, True, True)
    >>> bool(jnp.allclose(ys, sc.unroll(cell, params, xs)[1], atol=1e-6))
    True
    """
    _check.instance("cell", cell, Cell, "GRU(64)")
    engine = Newton(jacobian, tol, max_iters, chunk, damping, scan_dtype, on_fail, scan)
    xs, axis = time_first(cell, xs, time_axis)
    if key is not None:
        _check.key("key", key)
    lead, params = leading(cell, xs), as_arrays(params)
    flags = _flags.make(lead, lengths, mask, resets, axis, reverse)
    guess = None if guess is None else to_front(as_arrays(guess), axis)
    arrays = (params, key), (xs, flags, guess), (carry, reset_carry)
    call = _Newton(cell, engine, _check.flag("trajectory", trajectory))
    (last, report), (every, ys) = _shares.run(call, lead, *arrays)
    return time_back(every, axis) if trajectory else last, time_back(ys, axis), report


@dataclasses.dataclass(frozen=True)
class _Newton(Call):
    engine: Newton
    trajectory: bool

    def run(
        self, whole: PyTree, steps: PyTree, rows: PyTree
    ) -> tuple[tuple[Carry, NewtonReport], tuple[Carry, Outputs]]:
        (params, key), (xs, flags, guess), (carry, reset_carry) = whole, steps, rows
        start = Start(carry, reset_carry)
        assert isinstance(self.model, Cell)  # for the type checker: `newton` checks it
        cell, params, xs, carry, flags = begin(self.model, params, xs, start, flags, key)
        reason = self.engine.why_not(cell, xs, flags)
        if reason is not None:
            raise ValueError(f"cell: {self.engine} cannot run {cell}: {reason}; use unroll")
        if guess is not None:
            length = leading(cell, xs)[0]
            every = jax.tree.map(lambda a: jax.ShapeDtypeStruct((length, *a.shape), a.dtype), carry)
            guess = like("guess", guess, every, xs)
        last, every, ys, report = _solve(self.engine, cell, params, xs, carry, flags, guess)
        return (last, report), (every if self.trajectory else (), ys)


@functools.partial(jax.jit, inline=True)
def _solve(
    engine: Newton,
    cell: Cell,
    params: Params,
    xs: Inputs,
    carry: Carry,
    flags: Flags,
    guess: Carry,
) -> tuple[Carry, Carry, Outputs, NewtonReport]:
    params = closed_over(params)[0] if cell.casts_params else params
    return engine.solve(cell, params, xs, carry, flags, guess)
