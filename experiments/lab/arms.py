"""The arms that studies compare: a cell with its initialisation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax

import seqcells as sc
from experiments.lab.models import Net, Reader
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


def parameters(net: Net | Reader, input_size: int) -> int:
    """Count the parameters of a cell or a layer, or of one with its readout."""
    return sc.param_count(jax.eval_shape(lambda: net.init(jax.random.key(0), input_size)))


@functools.lru_cache(maxsize=256)
def as_large(make: Callable[[int], Net | Reader], input_size: int, wanted: int) -> int:
    """Return the number of units that gives a net about this number of parameters."""

    @functools.cache
    def count(units: int) -> int:
        return parameters(make(units), input_size)

    low, high = 1, 2
    while count(high) < wanted:
        low, high = high, 4 * high
    while high - low > 1:  # the root of the count is nearly linear in the units
        at_low, at_high, at = (math.sqrt(n) for n in (count(low), count(high), wanted))
        guess = low + round((high - low) * (at - at_low) / (at_high - at_low))
        middle = min(max(guess, low + 1), high - 1)
        low, high = (middle, high) if count(middle) < wanted else (low, middle)
    return min(low, high, key=lambda units: abs(count(units) - wanted))
