"""The contenders that studies share: a cell, how it starts, and the cell that runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import seqcells as sc
from seqcells import initializers


class Arm(NamedTuple):
    """A cell to measure: (hidden_size, longest time in steps) -> how it starts, and how it runs.

    Those that run alike are trained by one program, whatever they start from.
    """

    name: str
    start: Callable[[int, int], Any]
    run: Callable[[int], Any]


def _irnn(hidden_size: int) -> sc.RNN:
    return sc.RNN(hidden_size, "relu", w_hh_init=initializers.Identity())


def _chrono(hidden_size: int, longest: int) -> sc.GRU:
    slow = initializers.Chrono(longest)
    return sc.GRU(hidden_size, b_ih_init=(initializers.zeros, slow, initializers.zeros))


TANH = Arm("tanh orthogonal", lambda size, _: sc.RNN(size), sc.RNN)
IRNN = Arm("IRNN identity", lambda size, _: _irnn(size), _irnn)
GRU = Arm("GRU default", lambda size, _: sc.GRU(size), sc.GRU)
CHRONO = Arm("GRU chrono", _chrono, sc.GRU)
