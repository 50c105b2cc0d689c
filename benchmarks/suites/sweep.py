"""One gradient for each of many members: vmapped, looped, and sharded over devices."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator

import jax
from jax.sharding import AxisType, PartitionSpec

import seqcells as sc
from benchmarks.harness import benchmark, naive, pages, timing
from benchmarks.harness.benchmark import Benchmark, Group, Report
from benchmarks.harness.problem import Params, Shape, draw_inputs, draw_params
from benchmarks.harness.programs import training
from benchmarks.harness.tables import Row
from benchmarks.harness.timing import Call
from experiments.lab import BadInput

OURS = "seqcells vmapped"
IN_TURN = "seqcells in turn"
SHARDED = "seqcells sharded"
KEYS = ["members", "H", "devices"]
COLLECTIVE = r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\b"
TEXT = """\
One gradient of mean(ys**2) by the parameters of every member, a GRU, all on the same batch of 32
sequences of 100 steps with 8 features. In turn: one member after another within one program, as
`sc.sweep` runs them on a CPU; sharded: so, with a share of the members on each device. Medians over
interleaved rounds, quartiles in brackets."""
Gradient = Callable[[Params, jax.Array], object]  # (params, xs) -> value and gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(benchmark.DeviceSettings):
    """Measure the gradients of many members: vmapped, looped, and sharded over devices."""

    members: tuple[int, ...] = (32, 256)
    """numbers of parameter sets"""
    hidden_size: tuple[int, ...] = (32, 64, 128)
    """units of the GRU"""
    devices: int = 1
    """CPU devices, with one core each; with several, seqcells is also sharded over them"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for members in self.members:
            if members % self.devices:
                raise BadInput(
                    f"members: expected multiples of the {self.devices} devices, got {members}; "
                    f"give --members {members + -members % self.devices}"
                )


def groups(settings: Settings) -> Iterator[Group]:
    """List every number of members at every hidden size."""
    for members, hidden in itertools.product(settings.members, settings.hidden_size):
        job = functools.partial(measure, members, hidden, settings.seconds)
        yield Group(f"{members} members, H {hidden}", job)


def collectives(hlo: str) -> list[str]:
    """Return the names of the collective operations in a program's text, each once."""
    return sorted(set(re.findall(COLLECTIVE, hlo)))


def measure(members: int, hidden: int, seconds: float, report: Report) -> list[Row]:
    """Time the gradients of all members; return a row for each contestant."""
    shape = Shape(f"H{hidden}", 32, 100, 8, hidden)
    report("timing")
    times = timing.interleave(contestants(members, shape), seconds)
    group = {"members": members, "devices": jax.device_count()} | shape.columns
    return timing.contestant_rows(times, OURS, group)


def contestants(members: int, shape: Shape) -> dict[str, Call]:
    """Build the contestants."""
    cell, xs = sc.GRU(shape.H), draw_inputs(shape)
    each = [draw_params(cell, shape.D, seed) for seed in range(members)]
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *each)
    ours = training(lambda params, xs: sc.unroll(cell, params, xs)[1])
    theirs = training(lambda params, xs: naive.unroll("GRU", params, xs))
    calls: dict[str, Call] = {}
    for name, f in (("seqcells", ours), ("naive", theirs)):
        calls[f"{name} vmapped"] = _call(jax.jit(jax.vmap(f, (0, None))), stacked, xs)
        calls[f"{name} looped"] = _loop(jax.jit(f), each, xs)
    calls[IN_TURN] = _call(jax.jit(functools.partial(in_turn, ours)), stacked, xs)
    if jax.device_count() > 1:
        calls[SHARDED] = _sharded(ours, stacked, xs)
    return calls


def _call(f: Gradient, params: Params, xs: jax.Array) -> Call:
    return lambda: jax.block_until_ready(f(params, xs))


def _loop(f: Gradient, each: list[Params], xs: jax.Array) -> Call:
    return lambda: jax.block_until_ready([f(params, xs) for params in each])


def in_turn(f: Gradient, stacked: Params, xs: jax.Array) -> object:
    """Run one member after another within one program, as `sc.sweep` does on a CPU."""
    return jax.lax.map(lambda params: f(params, xs), stacked)


def _sharded(f: Gradient, stacked: Params, xs: jax.Array) -> Call:
    """Give each device its share of the members, which it runs one after another."""
    mesh = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(AxisType.Auto,))
    share, whole = PartitionSpec("members"), PartitionSpec()
    some = functools.partial(in_turn, f)
    spread = jax.shard_map(some, mesh=mesh, in_specs=(share, whole), out_specs=share)
    params = jax.device_put(stacked, jax.NamedSharding(mesh, share))
    inputs = jax.device_put(xs, jax.NamedSharding(mesh, whole))
    compiled = jax.jit(spread).lower(params, inputs).compile()
    found = collectives(compiled.as_text() or "")
    if found:
        raise AssertionError(f"expected a program without communication, but it has {found}")
    return _call(compiled, params, inputs)


def page(rows: list[Row]) -> str:
    """Show the times of a sweep, and their ratios."""
    sections = pages.medians_and_ratios(rows, KEYS, "One sweep, ms", "ms")
    return pages.page("A sweep: the gradients of many members", TEXT, rows, sections)


BENCHMARK = Benchmark(
    name="sweep",
    settings=Settings,
    keys=KEYS,
    columns=[*KEYS, "B", "T", "I", "contestant", *timing.COLUMNS],
    groups=groups,
    page=page,
)
