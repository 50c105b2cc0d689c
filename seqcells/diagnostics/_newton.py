"""How well Newton's method in time solves for the carries of given sequences."""

from __future__ import annotations

import dataclasses
from typing import Unpack

from seqcells import _check
from seqcells._cell import Cell
from seqcells._newton import newton
from seqcells._types import Carry, Inputs, Params
from seqcells.diagnostics._reading import Reading
from seqcells.engines import Newton, NewtonReport


def newton_report(
    cell: Cell,
    params: Params,
    xs: Inputs,
    carry: Carry = None,
    *,
    engine: Newton = Newton(),  # noqa: B008, a static value
    guess: Carry = None,
    **reading: Unpack[Reading],
) -> NewtonReport:
    """Return what `newton` reports for these sequences; sequences that fail are not run otherwise.

    With L v = v_t - J_t v_{t-1}, F the residual and g_t = abs(J_t) g_{t-1} + 1, entry by entry, the
    error of the carries is -L^-1 F to first order::

        error_bound    = max g * max|F|                  at least the error
        error_estimate = max|L^-1 s| * max|F|            for four vectors s of random signs

    and max|F| counts as at least 4 rounding errors of a step. `error_bound` overflows where
    abs(J_t) expands although J_t does not, as in most nets with a dense recurrent matrix over many
    steps; it is infinite then. `error_estimate` does not, but may be too small. Sequences count as
    converged if the residual is within the tolerance, and if errors of single steps, in units of
    the largest number of each leaf of the carry, grow to an rms of at most 2: in chaotic nets they
    grow further, and rounding decides what Newton and a scan compute.

    Args:
        cell: the cell.
        params: its parameters.
        xs: float[T, *B, D].
        carry: the memory before the first step; a fresh one if None.
        engine: the settings.
        guess: approximate carries after every step, as in `newton`.
        **reading: `lengths`, `mask`, `resets`, `reset_carry`, `reverse` and `time_axis`, as in
            `unroll`.

    Returns:
        A `NewtonReport`, each field [*B].

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> cell = sc.RNN(3, "identity", w_hh_init=sc.initializers.Orthogonal(0.5))
    >>> params = cell.init(jax.random.key(0), input_size=2)
    >>> report = newton_report(cell, params, jnp.ones((20, 4, 2)))
    >>> report.iterations.tolist(), report.converged.all().item()
    ([1, 1, 1, 1], True)
    """
    _check.instance("engine", engine, Newton, "Newton()")
    settings = {field.name: getattr(engine, field.name) for field in dataclasses.fields(engine)}
    settings["on_fail"] = "flag"
    return newton(cell, params, xs, carry, guess=guess, **settings, **reading)[2]
