"""Lorenz's system of 1963: convection, in three variables."""

from __future__ import annotations

import dataclasses

from seqcells.probes._system import Flow, State


@dataclasses.dataclass(frozen=True)
class Lorenz63(Flow):
    """Forecast the next state of Lorenz's system (Lorenz 1963).

    The equations are::

        dx/dt = 10 (y - x)
        dy/dt = x (28 - z) - y
        dz/dt = x y - 8/3 z

    At every step the input is the state, scaled to a mean of 0 and a standard deviation of 1, and
    the answer is the next one, `dt` later. Its Lyapunov exponents are .906, 0 and -14.572 per unit
    of time (Sprott 2003). Answering the state itself costs `baseline`; a loss below a hundredth of
    that solves it (our threshold). `cell` is the system itself.

    Args:
        length: T, steps; at least 1.
        dt: time of a step, above 0, at most 0.02, where a step is wrong by 2e-4; by 6e-6 at 0.01.
    """

    MEAN = (0.0, 0.0, 23.55)
    STD = (7.926, 9.013, 8.619)
    EXPONENTS = (0.9056, 0.0, -14.5723)
    BEGIN = (1.0, 1.0, 23.0)
    SPREAD = 5.0
    SETTLE = 5.0

    dt: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("dt", 0.02)

    @property
    def step_time(self) -> float:
        """`dt`."""
        return self.dt

    def velocity(self, state: State) -> State:
        """Return the derivative of x, y and z by time."""
        x, y, z = state
        return 10.0 * (y - x), x * (28.0 - z) - y, x * y - 8 / 3 * z
