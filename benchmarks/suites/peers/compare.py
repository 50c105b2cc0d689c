"""One cell at one shape: every contestant built, compared with seqcells, and timed beside it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.contestants import OURS, PEERS, Built, Peer
from benchmarks.harness.problem import Shape, draw_inputs, draw_params
from benchmarks.harness.programs import Program, What, gemm_program
from benchmarks.harness.timing import Times, fastest, interleave, time_columns

Row = dict[str, Any]
Say = Callable[[str], None]

TOLERANCE = 1e-4  # of outputs, and of gradients relative to the largest entry of an array
LIMIT = "GEMM limit"
KEYS = ["cell", "shape", "what"]  # of a group
COLUMNS = [
    *("cell", "shape", "what", "B", "T", "I", "H", "contestant", "version", "computes", "status"),
    *("difference", "ms", "ms_low", "ms_high", "ratio", "ratio_low", "ratio_high", "best"),
    *("rounds", "temp_mib", "compile_s", "compile_ratio", *machine.COLUMNS),
]


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A contestant with its model of a cell."""

    peer: Peer
    twin: Any  # the cell of seqcells that computes the same
    built: Built
    xs: Any  # in its own layout
    difference: float  # the largest from its twin's outputs

    @property
    def status(self) -> str:
        """Whether it may be timed: "ok", or why not."""
        return verdict("outputs", self.difference)


def verdict(what: str, difference: float) -> str:
    """Say "ok", or by how much it is not the same."""
    if difference <= TOLERANCE:  # which no NaN is
        return "ok"
    return f"{what} differ from those of seqcells by {difference:.1e}"


def enter(peer: Peer, kind: str, shape: Shape, xs: jax.Array) -> Entrant | None:
    """Build a contestant and compare its outputs; None where it has no such cell."""
    if kind not in peer.cells:
        return None
    twin = peer.cells[kind](shape.H)
    params = draw_params(twin, shape.D)
    built, own = peer.build(twin, params, shape), peer.place(xs)
    difference = np.abs(peer.outputs(built, own) - reference(twin, shape)).max(initial=0)
    return Entrant(peer, twin, built, own, float(difference))


@functools.lru_cache(maxsize=4)  # one shape's: peers share their twins
def reference(twin: Any, shape: Shape) -> np.ndarray:
    """Compute ys [T, B, H] of a cell of seqcells, on what all contestants are given."""
    built = OURS.build(twin, draw_params(twin, shape.D), shape)
    return OURS.outputs(built, draw_inputs(shape))


def gradient_difference(mine: Any, theirs: Any) -> float:
    """Return the largest difference of two gradients, relative to the largest of each array."""

    def leaf(a: jax.Array, b: jax.Array) -> float:
        return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a)))

    return max(jax.tree.leaves(jax.tree.map(leaf, mine, theirs)))


def measure(
    kind: str, shape: Shape, whats: Sequence[What], peers: Sequence[str], seconds: float, say: Say
) -> list[Row]:
    """Measure a cell at a shape; returns a row a contestant, for each of `whats`.

    Args:
        kind: "RNN", "GRU" or "LSTM".
        shape: the sizes.
        whats: "forward", "training" or both.
        peers: names of `PEERS`, all of them installed.
        seconds: how long each of `whats` is timed, at least five rounds.
        say: is told what is being done.
    """
    xs, entrants = draw_inputs(shape), []
    for peer in (OURS, *(PEERS[name] for name in peers)):
        say(f"building {peer.name}")
        entrant = enter(peer, kind, shape, xs)
        entrants += [entrant] if entrant else []
    return [row for what in whats for row in _race(kind, shape, what, entrants, seconds, say)]


def _race(
    kind: str, shape: Shape, what: What, entrants: list[Entrant], seconds: float, say: Say
) -> list[Row]:
    """Compile and time those that agree."""
    programs, status = {}, {entrant.peer.name: entrant.status for entrant in entrants}
    for entrant in entrants:
        if entrant.status == "ok":
            say(f"{what}: compiling {entrant.peer.name}")
            programs[entrant.peer.name] = entrant.peer.program(entrant.built, what, entrant.xs)
    if what == "training" and "naive" in programs:  # its parameters are seqcells' own
        mine, theirs = (programs[name].call()[1] for name in (OURS.name, "naive"))
        status["naive"] = verdict("gradients", gradient_difference(mine, theirs))
    programs[LIMIT] = gemm_program(kind, shape)
    say(f"{what}: timing")
    running = {k: p.call for k, p in programs.items() if status.get(k, "ok") == "ok"}
    times = interleave(running, seconds)
    if what == "training":
        times[LIMIT] = [3 * t for t in times[LIMIT]]
    group = {"cell": kind, "shape": shape.name, "what": what, **_sizes(shape)}
    rows, about = _rows(kind, entrants, status, programs, times), machine.about()
    return [group | row | about for row in rows]


def _sizes(shape: Shape) -> Row:
    return {"B": shape.B, "T": shape.T, "I": shape.D, "H": shape.H}


def _rows(
    kind: str,
    entrants: list[Entrant],
    status: dict[str, str],
    programs: dict[str, Program],
    times: Times,
) -> list[Row]:
    rivals = [e.peer.name for e in entrants if e.peer is not OURS and kind not in e.peer.lighter]
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
    return [*rows, limit | {"status": "ok", "best": False} | time_columns(times, LIMIT, OURS.name)]


def _sizeless(cell: Any) -> str:
    """Write a cell with H in place of its size."""
    return repr(cell).replace(f"({cell.hidden_size}", "(H", 1)
