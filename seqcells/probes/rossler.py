"""Rössler's system: one nonlinear term, in three variables."""

from __future__ import annotations

import dataclasses

from seqcells.probes._system import Flow, State


@dataclasses.dataclass(frozen=True)
class Rossler(Flow):
    """Forecast the next state of Rössler's system (Rössler 1976).

    The equations are::

        dx/dt = -y - z
        dy/dt = x + 0.2 y
        dz/dt = 0.2 + z (x - 5.7)

    At every step the input is the state, scaled to a mean of 0 and a standard deviation of 1, and
    the answer is the next one, `dt` later. Its Lyapunov exponents are .0714, 0 and -5.3943 per unit
    of time (Sprott 2003). Answering the state itself costs `baseline`; a loss below a hundredth of
    that solves it (our threshold). `cell` is the system itself.

    Args:
        length: T, steps; at least 1.
        dt: time of a step, above 0, at most 0.05.
    """

    MEAN = (0.177, -0.877, 0.882)
    STD = (5.138, 4.831, 2.864)
    EXPONENTS = (0.0714, 0.0, -5.3943)
    BEGIN = (0.0, -5.0, 0.0)
    SPREAD = 0.3
    SETTLE = 60.0

    dt: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("dt", 0.05)

    @property
    def step_time(self) -> float:
        """`dt`."""
        return self.dt

    def velocity(self, state: State) -> State:
        """Return the derivative of x, y and z by time."""
        x, y, z = state
        return -y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)
