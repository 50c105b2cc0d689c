"""A sweep: one gradient for each of many members, vmapped, looped, and spread over devices."""

from __future__ import annotations

import re
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

import seqcells as sc
from benchmarks.harness import machine, naive
from benchmarks.harness.problem import Shape, draw_inputs, draw_params
from benchmarks.harness.programs import training
from benchmarks.harness.timing import Call, interleave, time_columns

Row = dict[str, Any]

OURS = "seqcells vmapped"
SHARDED = "seqcells sharded"
KEYS = ["members", "H", "devices"]  # of a group
COLUMNS = [
    *("members", "H", "devices", "B", "T", "I", "contestant", "ms", "ms_low", "ms_high"),
    *("ratio", "ratio_low", "ratio_high", "rounds", *machine.COLUMNS),
]
COLLECTIVE = r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\b"


def shape(hidden: int) -> Shape:
    """Sizes of one member's problem."""
    return Shape(f"H{hidden}", 32, 100, 8, hidden)


def collectives(hlo: str) -> list[str]:
    """Name the collective operations in a program's text, each once."""
    return sorted(set(re.findall(COLLECTIVE, hlo)))


def measure(members: int, hidden: int, seconds: float) -> list[Row]:
    """Time a sweep; returns a row a contestant.

    Args:
        members: how many parameters there are.
        hidden: H of the cell.
        seconds: how long it is timed, at least five rounds.
    """
    sizes = shape(hidden)
    times = interleave(contestants(members, sizes), seconds)
    group = {"members": members, "H": hidden, "devices": jax.device_count()}
    group |= {"B": sizes.B, "T": sizes.T, "I": sizes.D} | machine.about()
    return [group | {"contestant": name} | time_columns(times, name, OURS) for name in times]


def contestants(members: int, sizes: Shape) -> dict[str, Call]:
    """Make what is timed."""
    cell, xs = sc.GRU(sizes.H), draw_inputs(sizes)
    each = [draw_params(cell, sizes.D, seed) for seed in range(members)]
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *each)
    ours = training(lambda params, xs: sc.unroll(cell, params, xs)[1])
    theirs = training(lambda params, xs: naive.unroll("GRU", params, xs))
    made: dict[str, Call] = {}
    for name, f in (("seqcells", ours), ("naive", theirs)):
        made[f"{name} vmapped"] = _call(jax.jit(jax.vmap(f, (0, None))), stacked, xs)
        made[f"{name} looped"] = _loop(jax.jit(f), each, xs)
    if jax.device_count() > 1:
        made[SHARDED] = _sharded(ours, stacked, xs)
    return made


def _call(f: Any, params: Any, xs: jax.Array) -> Call:
    return lambda: jax.block_until_ready(f(params, xs))


def _loop(f: Any, each: list[Any], xs: jax.Array) -> Call:
    return lambda: jax.block_until_ready([f(params, xs) for params in each])


def _sharded(f: Any, stacked: Any, xs: jax.Array) -> Call:
    """Give each device its share of the members, which it vmaps."""
    mesh = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(AxisType.Auto,))
    share, whole = PartitionSpec("members"), PartitionSpec()
    some = jax.vmap(f, (0, None))
    spread = jax.shard_map(some, mesh=mesh, in_specs=(share, whole), out_specs=share)
    params = jax.device_put(stacked, jax.NamedSharding(mesh, share))
    inputs = jax.device_put(xs, jax.NamedSharding(mesh, whole))
    compiled = jax.jit(spread).lower(params, inputs).compile()
    met = collectives(compiled.as_text() or "")
    if met:
        raise AssertionError(f"members of a sweep must not meet, but the program has {met}")
    return lambda: jax.block_until_ready(compiled(params, inputs))
