"""What lengths, masks and resets cost: seqcells with each of them, beside itself without."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import seqcells as sc
from benchmarks.harness import machine
from benchmarks.harness.problem import CELLS, Shape, draw_inputs, draw_params
from benchmarks.harness.programs import What, jax_program, training
from benchmarks.harness.timing import interleave, time_columns

Row = dict[str, Any]

NONE = "none"
KEYS = ["cell", "shape", "what"]  # of a group
COLUMNS = [
    *("cell", "shape", "what", "B", "T", "I", "H", "contestant", "ms", "ms_low", "ms_high"),
    *("ratio", "ratio_low", "ratio_high", "rounds", *machine.COLUMNS),
]


def draw(shape: Shape) -> dict[str, dict[str, jax.Array]]:
    """Draw lengths from T/2 to T, the mask that says the same, and a reset in a hundred steps."""
    k_lengths, k_resets = jax.random.split(jax.random.key(2))
    lengths = jax.random.randint(k_lengths, (shape.B,), shape.T // 2, shape.T + 1)
    mask = jnp.arange(shape.T)[:, None] < lengths
    resets = jax.random.bernoulli(k_resets, 0.01, (shape.T, shape.B))
    given = {"lengths": lengths, "mask": mask, "resets": resets}
    return {NONE: {}} | {name: {name: flag} for name, flag in given.items()}


def measure(kind: str, shape: Shape, what: What, seconds: float) -> list[Row]:
    """Time seqcells with each flag; returns a row a flag.

    Args:
        kind: "RNN", "GRU" or "LSTM".
        shape: the sizes.
        what: "forward" or "training".
        seconds: how long it is timed, at least five rounds.
    """
    cell, xs = CELLS[kind](shape.H), draw_inputs(shape)
    params, calls = draw_params(cell, shape.D), {}
    for name, flags in draw(shape).items():

        def forward(params: Any, xs: Any) -> jax.Array:
            return sc.unroll(cell, params, xs[0], **xs[1])[1]

        f = forward if what == "forward" else training(forward)
        calls[name] = jax_program(f, params, (xs, flags)).call
    times = interleave(calls, seconds)
    group = {"cell": kind, "shape": shape.name, "what": what}
    group |= {"B": shape.B, "T": shape.T, "I": shape.D, "H": shape.H} | machine.about()
    return [group | {"contestant": name} | time_columns(times, name, NONE) for name in times]
