"""The contenders that studies share: a cell, how it starts, and the cell that runs it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import seqcells as sc
from seqcells import initializers

Make = Callable[[int], Any]  # units -> a cell or a layer


class Arm(NamedTuple):
    """A cell to measure: (hidden_size, longest time in steps) -> how it starts, and how it runs.

    Those that run alike are trained by one program, whatever they start from.
    """

    name: str
    start: Callable[[int, int], Any]
    run: Make


def _irnn(hidden_size: int) -> sc.RNN:
    return sc.RNN(hidden_size, "relu", w_hh_init=initializers.Identity())


def _chrono(hidden_size: int, longest: int) -> sc.GRU:
    slow = initializers.Chrono(longest)
    return sc.GRU(hidden_size, b_ih_init=(initializers.zeros, slow, initializers.zeros))


def rnn(name: str, activation: str, w_hh_init: Any, **inits: Any) -> Arm:
    """Make an arm of an RNN that starts with these recurrent weights."""

    def start(size: int, _: int) -> sc.RNN:
        return sc.RNN(size, activation, w_hh_init=w_hh_init, **inits)

    return Arm(name, start, functools.partial(sc.RNN, activation=activation))


TANH = Arm("tanh orthogonal", lambda size, _: sc.RNN(size), sc.RNN)
IRNN = Arm("IRNN identity", lambda size, _: _irnn(size), _irnn)
GRU = Arm("GRU default", lambda size, _: sc.GRU(size), sc.GRU)
CHRONO = Arm("GRU chrono", _chrono, sc.GRU)


def parameters(net: Any, input_size: int) -> int:
    """Count the parameters of a cell or a layer."""
    return sc.param_count(jax.eval_shape(lambda: net.init(jax.random.key(0), input_size)))


@functools.lru_cache(maxsize=256)
def as_large(make: Make, input_size: int, wanted: int) -> int:
    """Return the number of units with which a net has about so many parameters."""
    low, high = 1, 2
    while parameters(make(high), input_size) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fewer = parameters(make(middle), input_size) < wanted
        low, high = (middle, high) if fewer else (low, middle)
    return min(low, high, key=lambda units: abs(parameters(make(units), input_size) - wanted))
