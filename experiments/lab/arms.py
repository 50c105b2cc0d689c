"""The arms that studies compare: a cell with its initialisation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

import seqcells as sc
from experiments.lab.models import Net
from seqcells import initializers
from seqcells.initializers import GateInitializers, Initializer

Make = Callable[[int], Net]  # hidden_size -> cell or layer


class Arm(NamedTuple):
    """A cell to compare. Arms with equal `run` are trained by one program."""

    name: str
    start: Callable[[int, int], sc.Cell]  # (hidden_size, longest time in steps) -> cell
    run: Callable[[int], sc.Cell]  # hidden_size


def _irnn(hidden_size: int) -> sc.RNN:
    return sc.RNN(hidden_size, "relu", w_hh_init=initializers.Identity())


def _chrono(hidden_size: int, longest: int) -> sc.GRU:
    slow = initializers.Chrono(longest)
    return sc.GRU(hidden_size, b_ih_init=(initializers.zeros, slow, initializers.zeros))


def rnn(
    name: str,
    activation: str,
    w_hh_init: Initializer,
    w_ih_init: GateInitializers = sc.RNN.w_ih_init,
) -> Arm:
    """Make an arm: an RNN with these initial weights."""

    def start(size: int, _: int) -> sc.RNN:
        return sc.RNN(size, activation, w_hh_init=w_hh_init, w_ih_init=w_ih_init)

    return Arm(name, start, functools.partial(sc.RNN, activation=activation))


TANH = Arm("tanh orthogonal", lambda size, _: sc.RNN(size), sc.RNN)
IRNN = Arm("IRNN identity", lambda size, _: _irnn(size), _irnn)
GRU = Arm("GRU default", lambda size, _: sc.GRU(size), sc.GRU)
CHRONO = Arm("GRU chrono", _chrono, sc.GRU)


def parameters(net: Net, input_size: int) -> int:
    """Count the parameters of a cell or a layer."""
    return sc.param_count(jax.eval_shape(lambda: net.init(jax.random.key(0), input_size)))


@functools.lru_cache(maxsize=256)
def as_large(make: Make, input_size: int, wanted: int) -> int:
    """Return the number of units that gives a net about this number of parameters."""
    low, high = 1, 2
    while parameters(make(high), input_size) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fewer = parameters(make(middle), input_size) < wanted
        low, high = (middle, high) if fewer else (low, middle)
    return min(low, high, key=lambda units: abs(parameters(make(units), input_size) - wanted))
