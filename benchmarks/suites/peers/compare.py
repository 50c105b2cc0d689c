"""One cell at one shape: build every contestant, compare it with seqcells, and time them all."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from benchmarks.harness import machine
from benchmarks.harness.benchmark import Report
from benchmarks.harness.contestants import OURS, PEERS, SPLIT, Built, Peer
from benchmarks.harness.problem import Inputs, Params, Shape, draw_inputs, draw_params
from benchmarks.harness.programs import Program, What, gemm_program
from benchmarks.harness.tables import Row
from benchmarks.harness.timing import Times, fastest, interleave, time_columns

TOLERANCE = 1e-4  # tolerance of outputs, and of gradients relative to the largest entry of an array
LIMIT = "GEMM limit"
KEYS = ["cell", "shape", "what"]
COLUMNS = [
    *(*KEYS, "B", "T", "I", "H", "contestant", "version", "computes", "status", "difference"),
    *("ms", "ms_low", "ms_high", "ratio", "ratio_low", "ratio_high", "best"),
    *("rounds", "temp_mib", "compile_s", "compile_ratio"),
]


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A contestant with its model of a cell."""

    peer: Peer
    twin: sc.Cell  # the cell of seqcells that computes the same function
    built: Built
    xs: Inputs
    difference: float  # largest difference from the outputs of its twin

    @property
    def status(self) -> str:
        """Return "ok" if it may be timed, or the reason why not."""
        return verdict("outputs", self.difference)


def verdict(what: str, difference: float) -> str:
    """Return "ok", or how much it differs from seqcells."""
    if difference <= TOLERANCE:  # false for NaN
        return "ok"
    return f"{what} differ from those of seqcells by {difference:.1e}"


def enter(peer: Peer, kind: str, shape: Shape, xs: jax.Array) -> Entrant | None:
    """Build a contestant and compare its outputs; None if it does not have the cell."""
    if kind not in peer.cells:
        return None
    twin = peer.cells[kind](shape.H)
    params = draw_params(twin, shape.D)
    built, own = peer.build(twin, params, shape), peer.place(xs)
    difference = np.abs(peer.outputs(built, own) - reference(twin, shape)).max(initial=0)
    return Entrant(peer, twin, built, own, float(difference))


@functools.lru_cache(maxsize=4)  # cached per shape, because peers share twins
def reference(twin: sc.Cell, shape: Shape) -> np.ndarray:
    """Compute ys [T, B, H] of a cell of seqcells, on the inputs of all contestants."""
    built = OURS.build(twin, draw_params(twin, shape.D), shape)
    return OURS.outputs(built, draw_inputs(shape))


def gradient_difference(ours: Params, theirs: Params) -> float:
    """Return the largest difference of two gradients, relative to the largest of each array."""

    def leaf(a: jax.Array, b: jax.Array) -> float:
        return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a)))

    return max(jax.tree.leaves(jax.tree.map(leaf, ours, theirs)))


def measure(
    kind: str,
    shape: Shape,
    whats: Sequence[What],
    peers: Sequence[str],
    seconds: float,
    report: Report,
) -> list[Row]:
    """Measure a cell at a shape; return a row for each contestant and each of `whats`.

    Args:
        kind: "RNN", "GRU" or "LSTM".
        shape: the sizes.
        whats: "forward", "training" or both.
        peers: names in `PEERS`, all of them installed.
        seconds: how long each of `whats` is timed, at least five rounds.
        report: shows the current work.
    """
    xs, entrants = draw_inputs(shape), []
    own = (OURS, SPLIT) if len(jax.devices()) > 1 else (OURS,)
    for peer in (*own, *(PEERS[name] for name in peers)):
        report(f"building {peer.name}")
        entrant = enter(peer, kind, shape, xs)
        entrants += [entrant] if entrant else []
    rows = []
    for what in whats:
        group = {"cell": kind, "shape": shape.name, "what": what} | shape.columns
        timed = _time(kind, shape, what, entrants, seconds, report)
        rows += [group | row for row in timed]
    return rows


def _time(
    kind: str, shape: Shape, what: What, entrants: list[Entrant], seconds: float, report: Report
) -> list[Row]:
    """Compile and time the contestants that agree with seqcells."""
    programs, status = {}, {entrant.peer.name: entrant.status for entrant in entrants}
    for entrant in entrants:
        if entrant.status == "ok":
            report(f"{what}: compiling {entrant.peer.name}")
            programs[entrant.peer.name] = entrant.peer.program(entrant.built, what, entrant.xs)
    alike = [e.peer for e in entrants if e.peer.own_params and e.peer.name in programs]
    for name in [peer.name for peer in alike if what == "training"]:
        ours, theirs = (programs[who].call()[1] for who in (OURS.name, name))
        status[name] = verdict("gradients", gradient_difference(ours, theirs))
    programs[LIMIT] = gemm_program(kind, shape)
    report(f"{what}: timing")
    running = {k: p.call for k, p in programs.items() if status.get(k, "ok") == "ok"}
    times = interleave(running, seconds)
    if what == "training":
        times[LIMIT] = [3 * t for t in times[LIMIT]]
    return _rows(kind, entrants, status, programs, times)


def _rows(
    kind: str,
    entrants: list[Entrant],
    status: dict[str, str],
    programs: dict[str, Program],
    times: Times,
) -> list[Row]:
    peers = [e.peer for e in entrants if not isinstance(e.peer, type(OURS))]
    rivals = [peer.name for peer in peers if kind not in peer.lighter]
    best = fastest(times, rivals)
    base = programs["naive"].compile_seconds if "naive" in programs else math.nan
    rows = []
    for entrant in entrants:
        peer = entrant.peer
        program = programs.get(peer.name, Program(lambda: None))
        rows.append(
            {
                "contestant": peer.name,
                "version": machine.version(peer.package),
                "computes": peer.lighter.get(kind, _sizeless(entrant.twin)),
                "status": status[peer.name],
                "difference": entrant.difference,
                "best": peer.name == best,
                "temp_mib": program.temp_mib,
                "compile_s": program.compile_seconds,
                "compile_ratio": program.compile_seconds / base,
                **time_columns(times, peer.name, OURS.name),
            }
        )
    limit = dict.fromkeys(("difference", "temp_mib", "compile_s", "compile_ratio"), math.nan)
    limit |= {"contestant": LIMIT, "version": machine.version("jax"), "computes": ""}
    limit |= {"status": "ok", "best": False}
    return [*rows, limit | time_columns(times, LIMIT, OURS.name)]


def _sizeless(cell: sc.Cell) -> str:
    """Format a cell with H in place of its size."""
    return re.sub(r"\(\d+", "(H", repr(cell), count=1)
