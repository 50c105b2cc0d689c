"""Hénon's map: chaos in two variables and discrete time."""

from __future__ import annotations

import dataclasses

from seqcells.probes._system import State, System


@dataclasses.dataclass(frozen=True)
class Henon(System):
    """Forecast the next state of Hénon's map (Hénon 1976).

    The equations are::

        x' = 1 - 1.4 x^2 + y
        y' = 0.3 x

    At every step the input is the state, scaled to a mean of 0 and a standard deviation of 1, and
    the answer is the next one. Its Lyapunov exponents are .4192 and -1.6232 per step (Sprott 2003);
    their sum is ln 0.3. Answering the state itself costs `baseline`; a loss below a hundredth of
    that solves it (our threshold). `cell` is the map itself.

    Args:
        length: T, steps; at least 1.
    """

    MEAN = (0.2565, 0.077)
    STD = (0.721, 0.2164)
    EXPONENTS = (0.41922, -1.62319)
    BEGIN = (0.0, 0.0)
    SPREAD = 0.05
    SETTLE = 50.0

    @property
    def step_time(self) -> float:
        """1: time is counted in steps."""
        return 1.0

    def advance(self, state: State) -> State:
        """Return x and y after one step."""
        x, y = state
        return 1.0 - 1.4 * x**2 + y, 0.3 * x
