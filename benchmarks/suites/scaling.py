"""What a training step of a GRU costs against T, B and H, one at a time around a centre."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.contestants import OURS, PEERS, Peer
from benchmarks.harness.problem import Shape, draw_inputs, draw_params
from benchmarks.harness.programs import Program
from benchmarks.harness.timing import interleave, time_columns

Row = dict[str, Any]

CENTRE = Shape("centre", 16, 256, 32, 128)
VALUES = {
    "T": (64, 128, 256, 512, 1024, 2048, 4096),
    "B": (1, 4, 16, 64, 256),
    "H": (16, 32, 64, 128, 256, 512),
}
KEYS = ["axis", "value"]  # of a group
COLUMNS = [
    *("axis", "value", "B", "T", "I", "H", "contestant", "ms", "ms_low", "ms_high"),
    *("ratio", "ratio_low", "ratio_high", "rounds", *machine.COLUMNS),
]


def measure(axis: str, value: int, seconds: float) -> list[Row]:
    """Time a training step; returns a row a contestant.

    Args:
        axis: the size that differs from the centre's, "T", "B" or "H".
        value: what it is.
        seconds: how long it is timed, at least five rounds.
    """
    shape = CENTRE._replace(**{axis: value})
    programs = {peer.name: _program(peer, shape) for peer in (OURS, PEERS["naive"])}
    times = interleave({name: program.call for name, program in programs.items()}, seconds)
    group = {"axis": axis, "value": value, "B": shape.B, "T": shape.T, "I": shape.D, "H": shape.H}
    group |= machine.about()
    return [group | {"contestant": name} | time_columns(times, name, OURS.name) for name in times]


def _program(peer: Peer, shape: Shape) -> Program:
    twin, xs = peer.cells["GRU"](shape.H), draw_inputs(shape)
    built = peer.build(twin, draw_params(twin, shape.D), shape)
    return peer.program(built, "training", peer.place(xs))
